package main

import "github.com/alecthomas/kong"

const description = `Tells other systems, at once and without a gap, when a call centre's queue agent logs in or out.

Every setting is a flag, or the environment variable that is named with it; the flag wins, and an empty variable
counts as none. Setting AGENTEVENTS_ADDR=:8080 is the same as --addr=:8080.`

// helpTexts are the texts of --help, by the names under which the tags of the commands and settings refer to them.
var helpTexts = kong.Vars{
	// The settings.
	"addr": "Where to listen. Without HOST at all addresses; port 0 takes a free one.",
	"metrics_addr": "Where to listen for who collects metrics (/metrics) and profiles (/debug/pprof/). Nowhere " +
		"unless given.",
	"database_url": "The store: sqlite:PATH, whose file is made if there is none and owned by one process, or " +
		"postgres://USER@HOST:PORT/DATABASE, which any number of processes share.",
	"allow_networks": "Networks that receivers may live in although they are not public, such as 10.0.0.0/8. None " +
		"unless given.",
	"trusted_proxies": "Networks of proxies that are believed, by X-Forwarded-For, whose request they pass on, such " +
		"as 127.0.0.0/8. None unless given.",
	"timeout":        "How long one attempt at a delivery may take, from 100ms to 1m.",
	"retry_window":   "How long a delivery is tried, from the change on, from 1m to 720h.",
	"retry_schedule": "Delays between attempts, from 100ms to 24h each; the last one repeats.",
	"deploy_window": "How long an answer of a receiver that is being deployed (3xx, 401, 403, 404, 405) is tried " +
		"again, from the change on, up to 24h; 0s for not at all.",
	"retry_jitter": "How far each of these delays is varied at random, from 0% to 100%.",
	"drain": "How long requests are still taken after SIGTERM while /readyz is red, so that a load balancer sees it, " +
		"from 0s to 1m; nothing is waited for when nothing looks at /readyz.",
	"keep": "How long the log keeps what has ended, from its end on, from 1h to 87600h.",
	"keep_rows": "How many deliveries, and how many status changes, the log keeps at most, of all clients together, " +
		"from 1000 to 1000000000.",
	"operator_id": "Application that may do everything for every client; it is made at the start, with the secret " +
		"below. Without it the first start makes one and prints it.",
	"operator_secret_file": "File that holds the secret of this application. AGENTEVENTS_OPERATOR_SECRET may hold " +
		"the secret itself, which no flag does.",
	"encryption_key_file": "File that holds the key that signing secrets are encrypted with in the store, 64 " +
		"hexadecimal digits. AGENTEVENTS_ENCRYPTION_KEY may hold the key itself, which no flag does.",
	"log_level":  "The least that is logged: debug, info, warn or error.",
	"log_format": "How it is logged, on standard error: text or json.",

	// The commands.
	"command_serve":  "Serve the API and carry out deliveries, until SIGINT or SIGTERM; a second one kills.",
	"command_verify": "Check the store, also while it is served, and say what is wrong with it; nothing is changed.",
	"command_backup": "Copy an SQLite store, also while it is served, into a file that may be put in its place.",
	"command_copy": "Copy an SQLite store that nobody serves into a PostgreSQL database; when it was interrupted, " +
		"run it again.",
	"command_new_epoch": "Give the store another epoch, after it was restored from anything but a copy that backup " +
		"made, before it is served.",
	"command_application": "Make, list and revoke the applications that get tokens, also while the store is served.",
	"command_version":     "Print what was built: version, commit, Go and platform.",

	// The commands of application.
	"application_create": "Make an application and print its id and its secret, which is shown this once.",
	"application_list":   "List the applications of the operator and of all clients.",
	"application_revoke": "Delete an application; within a second its tokens are refused.",

	// The flags of application create.
	"create_client": "Client that it belongs to. Either this or --operator is required.",
	"create_operator": "It is the operator's, and may do everything for every client. Either this or --client is " +
		"required.",
	"create_name": "Its name, for people to read.",
	"create_access": "What it may do for its client: all, call_api (no agents and no status) or read_only; all " +
		"unless given.",

	// The argument of application revoke.
	"revoke_id": "Id of the application.",

	// The flag of backup.
	"backup_to": "Where the copy is put; nothing may be there yet.",

	// The flags of copy.
	"copy_from": "The store that is copied, sqlite:PATH; nobody may serve it meanwhile.",
	"copy_to": "The database that it is copied into, postgres://USER@HOST:PORT/DATABASE; nothing of this program may " +
		"be in it yet, but for a copy that was interrupted.",
}
