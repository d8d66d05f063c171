package main

import "strings"

// The versions of the tools. A package.json has the version of a package of npm.
const (
	openAPIGenerator    = "7.25.0"
	mavenDependency     = "3.8.1"
	openAPITypeScript   = "7.13.0"
	openAPIFetch        = "0.17.0"
	heyAPI              = "0.95.0"
	openAPIPythonClient = "0.29.1"
)

// fetchJar downloads openapi-generator into the current directory, for all SDKs that it generates.
const fetchJar = "mvn -q org.apache.maven.plugins:maven-dependency-plugin:" + mavenDependency + ":copy" +
	" -Dartifact=org.openapitools:openapi-generator-cli:" + openAPIGenerator + " -DoutputDirectory=."

const jar = "openapi-generator-cli-" + openAPIGenerator + ".jar"

// sdk is one SDK. A shell runs its commands, which gen/README.md lists, in a directory next to that of the jar. The
// variable agentevents has the path of the repository.
type sdk struct {
	name     string // name of its directory in testdata/ and of its section in gen/README.md
	tool     string // the generator and its version
	needs    []need
	generate []string
	build    []string
	run      string   // empty if the SDK is only generated
	harmless []string // warnings of the generator that no change of openapi.yaml prevents
}

// usesJar reports whether openapi-generator generates the SDK.
func (s *sdk) usesJar() bool { return strings.HasPrefix(s.tool, "openapi-generator ") }

// need is a required package.
type need struct {
	name  string // name of the Debian package
	probe string // shell command that succeeds if it is installed
}

var (
	needJava   = need{"default-jre-headless", "command -v java"}
	needJDK    = need{"default-jdk-headless", "command -v javac"}
	needMaven  = need{"maven", "command -v mvn"}
	needPython = need{"python3-venv", "python3 -c 'import ensurepip, venv'"}
	needNode   = need{"nodejs", "command -v node"}
	needNpm    = need{"npm", "command -v npm"}
	needGo     = need{"golang", "command -v go"}
	needPHP    = need{"php-cli", "command -v php"}
	needCurl   = need{"php-curl", "php -r 'exit((int) !extension_loaded(\"curl\"));'"}
	needMB     = need{"php-mbstring", "php -r 'exit((int) !extension_loaded(\"mbstring\"));'"}
	needGuzzle = need{"php-guzzlehttp-guzzle", "test -e /usr/share/php/GuzzleHttp/autoload.php"}
	needRuby   = need{"ruby", "command -v ruby"}
	needHTTP   = need{"ruby-typhoeus", "ruby -e 'require \"typhoeus\"'"}
)

// Commands of several SDKs.
const (
	copySpec = `cp "$agentevents"/openapi.yaml .`
	npm      = "npm install --no-package-lock --no-audit --no-fund --loglevel=error"
	tsc      = "npx tsc --project ."
	venv     = "python3 -m venv venv"
	pip      = "venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt"
	checkPy  = "venv/bin/mypy story.py"
	runPy    = "venv/bin/python story.py"
	runJS    = "node out/story.js"
)

func copyStory(name string) string {
	return `cp -R "$agentevents"/server/sdk/testdata/` + name + `/. .`
}

func byJar(generator string) string {
	return "java -jar ../" + jar + " generate -g " + generator + " -i openapi.yaml -o sdk"
}

func jarNeeds(further ...need) []need { return append([]need{needJava, needMaven}, further...) }

const jarTool = "openapi-generator " + openAPIGenerator

var sdks = []sdk{
	{
		name: "python", tool: jarTool, needs: jarNeeds(needPython),
		generate: []string{copySpec, copyStory("python"), byJar("python")},
		build:    []string{venv, pip + " ./sdk mypy", checkPy},
		run:      runPy,
		// The generator looks for the names of properties' schemas that have none. It does not need them.
		harmless: []string{"Failed to get the schema name: null"},
	},
	{
		name: "php", tool: jarTool, needs: jarNeeds(needPHP, needCurl, needMB, needGuzzle),
		generate: []string{copySpec, copyStory("php"), byJar("php")},
		build:    []string{"find sdk/lib story.php -name '*.php' | xargs -n 1 php -l >lint.txt"},
		run:      "php story.php",
	},
	{
		name: "typescript-fetch", tool: jarTool, needs: jarNeeds(needNode, needNpm),
		generate: []string{copySpec, copyStory("typescript-fetch"), byJar("typescript-fetch")},
		build:    []string{npm, tsc},
		run:      runJS,
	},
	{
		name: "java", tool: jarTool, needs: jarNeeds(needJDK),
		generate: []string{copySpec, copyStory("java"), byJar("java")},
		build: []string{
			"mvn -q -f sdk -DskipTests package",
			"javac -encoding UTF-8 -cp 'sdk/target/openapi-java-client-1.0.0.jar:sdk/target/lib/*' Story.java",
		},
		run: "java -cp '.:sdk/target/openapi-java-client-1.0.0.jar:sdk/target/lib/*' Story",
		// The SDK's documentation lacks the example, which is an object or an array.
		harmless: []string{"Ignoring complex example on request body"},
	},
	{
		name: "go", tool: jarTool, needs: jarNeeds(needGo),
		generate: []string{copySpec, copyStory("go"), byJar("go")},
		build:    []string{"go vet . github.com/GIT_USER_ID/GIT_REPO_ID", "go build -o story ."},
		run:      "./story",
	},
	{
		name: "ruby", tool: jarTool, needs: jarNeeds(needRuby, needHTTP),
		generate: []string{copySpec, copyStory("ruby"), byJar("ruby")},
		build:    []string{"find sdk/lib story.rb -name '*.rb' | xargs -n 1 ruby -c >lint.txt"},
		run:      "ruby -I sdk/lib story.rb",
		// The word is the name of a property, and no model has that name.
		harmless: []string{"until (reserved word) cannot be used as model name"},
	},
	{
		name: "openapi-fetch", tool: "openapi-typescript " + openAPITypeScript + ", openapi-fetch " + openAPIFetch,
		needs: []need{needNode, needNpm},
		generate: []string{
			copySpec, copyStory("openapi-fetch"), npm, "npx openapi-typescript openapi.yaml -o schema.d.ts",
		},
		build: []string{tsc},
		run:   runJS,
	},
	{
		name: "hey-api", tool: "@hey-api/openapi-ts " + heyAPI, needs: []need{needNode, needNpm},
		generate: []string{copySpec, copyStory("hey-api"), npm, "npx openapi-ts -i openapi.yaml -o sdk"},
		build:    []string{tsc},
		run:      runJS,
	},
	{
		name: "openapi-python-client", tool: "openapi-python-client " + openAPIPythonClient, needs: []need{needPython},
		generate: []string{
			copySpec, copyStory("openapi-python-client"), venv, pip + " openapi-python-client==" + openAPIPythonClient,
			`PATH="$PWD/venv/bin:$PATH" openapi-python-client generate --path openapi.yaml --output-path sdk`,
		},
		build: []string{pip + " ./sdk mypy", checkPy},
		run:   runPy,
	},
	{
		name: "client", tool: "gen/client of this repository", needs: []need{needGo},
		generate: []string{
			copyStory("client"), "go mod init story",
			`go mod edit -require=github.com/agentevents/agentevents@v0.0.0 ` +
				`-replace=github.com/agentevents/agentevents="$agentevents"`,
			"go mod tidy",
		},
		build: []string{"go vet .", "go build -o story ."},
		run:   "./story",
	},
	{
		name: "csharp", tool: jarTool, needs: jarNeeds(),
		generate: []string{copySpec, byJar("csharp"), "test -s sdk/src/Org.OpenAPITools/Api/EventApi.cs"},
	},
	{
		name: "kotlin", tool: jarTool, needs: jarNeeds(),
		generate: []string{
			copySpec, byJar("kotlin"), "test -s sdk/src/main/kotlin/org/openapitools/client/apis/EventApi.kt",
		},
	},
}
