package main

import "github.com/alecthomas/kong"

const description = `Sends a webhook each time that a call centre's queue agent logs in or out.

Example, which serves the API on http://127.0.0.1:8080 and prints the operator's credentials at its first start:

  agentevents serve`

// helpTexts are the texts of --help, by the names under which the tags of the commands and settings refer to them. The
// help of a command fits on a screen: the guide for operators has what is allowed, and so has each error.
var helpTexts = kong.Vars{
	// The settings.
	"addr":                 "Address of the API. Port 0 takes a free one.",
	"metrics_addr":         "Address of metrics and profiles.",
	"trusted_proxies":      "Proxies whose X-Forwarded-For is used.",
	"drain":                "Longest wait, after SIGTERM, for load balancers.",
	"database_url":         "sqlite:PATH or postgres://USER@HOST:PORT/DATABASE.",
	"encryption_key_file":  "File with the key of the signing secrets.",
	"keep":                 "Time to keep finished deliveries.",
	"keep_rows":            "Number of deliveries, and of changes, to keep.",
	"allow_networks":       "Private networks that receivers may be in.",
	"timeout":              "Longest time of one attempt.",
	"retry_window":         "Time after its change in which a delivery is tried.",
	"retry_schedule":       "Delays between attempts. The last one repeats.",
	"retry_jitter":         "Random part of each delay.",
	"deploy_window":        "Time after its change in which 3xx, 401, 403, 404 and 405 are retried.",
	"operator_id":          "Id of an operator's application to create.",
	"operator_secret_file": "File with the secret of this application.",
	"log_level":            "debug, info, warn or error.",
	"log_format":           "text or json.",

	// The commands.
	"command_serve":       "Serve the API and deliver events, until SIGINT or SIGTERM.",
	"command_version":     "Print version, commit, Go version and platform.",
	"command_application": "Manage the applications that get tokens.",
	"command_verify":      "Check a store for inconsistencies. Changes nothing.",
	"command_backup":      "Copy an SQLite store to a file. The server may run meanwhile.",
	"command_copy":        "Copy an SQLite store to PostgreSQL.",
	"command_new_epoch":   "Give a restored store a new epoch.",

	// The commands of application.
	"application_create": "Create an application and print its id and secret.",
	"application_list":   "List all applications.",
	"application_revoke": "Revoke an application. Its tokens end within a second.",

	// The flags of application create.
	"create_client":   "Client to create it for, which must exist. This or --operator is required.",
	"create_operator": "Create an application of the operator. This or --client is required.",
	"create_name":     "Name, for people to read.",
	"create_access":   "all (the default), call_api or read_only.",

	// The argument of application revoke.
	"revoke_id": "Id of the application.",

	// The flag of backup.
	"backup_to": "File to write, which must not exist yet.",

	// The flags of copy.
	"copy_from": "Store to copy, sqlite:PATH. Stop its server first.",
	"copy_to":   "Database to copy to, postgres://USER@HOST:PORT/DATABASE.",
}

// What kong prints below the text of a command, with its example.

func (settings) Help() string {
	return `Each flag is an environment variable, too: --retry-window=48h is AGENTEVENTS_RETRY_WINDOW=48h. The flag ` +
		`wins. AGENTEVENTS_OPERATOR_SECRET and AGENTEVENTS_ENCRYPTION_KEY have no flag, since flags show in ps.

  agentevents serve --database-url=sqlite:/var/lib/agentevents/agentevents.db`
}

func (versionCommand) Help() string {
	return `Example:

  agentevents version`
}

func (createCommand) Help() string {
	return `The secret is not shown again. The server may run meanwhile.

  agentevents application create --client=12 --name=CRM --access=call_api`
}

func (listCommand) Help() string {
	return `Example:

  agentevents application list`
}

func (revokeCommand) Help() string {
	return `Example:

  agentevents application revoke 3f2a9c`
}

func (verifyCommand) Help() string {
	return `The exit code is 0 for a consistent store and 1 otherwise. The server may run meanwhile.

  agentevents verify --database-url=sqlite:agentevents.db`
}

func (backupCommand) Help() string {
	return `To restore, stop the server, move all files of the old store away, and copy the backup to its path.

  agentevents backup --to=/backups/2017-05-30.db`
}

func (copyCommand) Help() string {
	return `Stop the server first. The database must hold nothing of agentevents. If the command was interrupted, ` +
		`run it again: it continues its copy. PGPASSFILE or PGPASSWORD has the password of the database.

  agentevents copy --from=sqlite:agentevents.db --to=postgres://pbx@db.example/pbx`
}

func (newEpochCommand) Help() string {
	return `Run it after each restore, except from a file that "agentevents backup" made, and before the first ` +
		`"agentevents serve". Readers of the feed then start again.

  agentevents new-epoch --database-url=sqlite:agentevents.db`
}
