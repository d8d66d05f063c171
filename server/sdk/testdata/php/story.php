<?php

// The calls of all programs, through the SDK of openapi-generator for PHP.

declare(strict_types=1);

use OpenAPI\Client\Api;
use OpenAPI\Client\ApiException;
use OpenAPI\Client\Configuration;
use OpenAPI\Client\Model;

// Replaces vendor/autoload.php of composer: loads the system's Guzzle, and the SDK by PSR-4.
require '/usr/share/php/GuzzleHttp/autoload.php';
spl_autoload_register(function (string $class): void {
    $prefix = 'OpenAPI\\Client\\';
    if (str_starts_with($class, $prefix)) {
        require __DIR__ . '/sdk/lib/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
    }
});

const CLIENT = '35';
const LOCAL = 136;
const REMOTE = 7;
const EXTENSION = '000*094@ringme.ru';
const NUMBER = 'Доб. *7@Юг';

function say(string $line): void
{
    echo $line, "\n";
}

/** @param array<object> $items */
function listed(array $items, callable $text): string
{
    return implode(', ', array_map($text, $items));
}

$http = new GuzzleHttp\Client();
$config = (new Configuration())->setHost(getenv('BASE_URL'));

$token = (new Api\AccessApi($http, $config))->requestToken('client_credentials', getenv('CLIENT_ID'), getenv('CLIENT_SECRET'));
say("token: {$token->getTokenType()}, for {$token->getExpiresIn()} s");

$config->setAccessToken($token->getAccessToken());
$clients = new Api\ClientApi($http, $config);
$agents = new Api\AgentApi($http, $config);
$events = new Api\EventApi($http, $config);
$statuses = new Api\StatusApi($http, $config);
$deliveries = new Api\DeliveryApi($http, $config);

$client = $clients->putClient(CLIENT, new Model\ClientUpdate(['name' => 'Ромашка']));
say("client: {$client->getId()} {$client->getName()}");
$local = $agents->putLocalAgent(CLIENT, LOCAL, new Model\LocalAgentUpdate(['extension_name' => EXTENSION]));
say("local agent: {$local->getId()} {$local->getExtensionName()} {$local->getAgentStatus()}");
$remote = $agents->putRemoteAgent(CLIENT, REMOTE, new Model\RemoteAgentUpdate(['agent_number' => NUMBER]));
say("remote agent: {$remote->getId()} {$remote->getAgentNumber()} {$remote->getAgentStatus()}");
say('local agents: ' . listed(
    $agents->listLocalAgents(CLIENT),
    fn (Model\LocalAgent $a) => "{$a->getId()} {$a->getExtensionName()}"
));
say('remote agents: ' . listed(
    $agents->listRemoteAgents(CLIENT),
    fn (Model\RemoteAgent $a) => "{$a->getId()} {$a->getAgentNumber()}"
));

$login = new Model\AgentEventCreate([
    'url' => getenv('RECEIVER_URL'),
    'method' => Model\RequestMethod::POST,
    'event_type' => Model\EventType::AGENT_LOGIN,
]);
$localEvent = $events->createLocalAgentEvent(CLIENT, LOCAL, $login);
say('event of local agent ' . LOCAL . ": {$localEvent->getMethod()} {$localEvent->getEventType()}");
$remoteEvent = $events->createRemoteAgentEvent(CLIENT, REMOTE, $login);
say('event of remote agent ' . REMOTE . ": {$remoteEvent->getMethod()} {$remoteEvent->getEventType()}");

function sayStatus(string $agent, Model\AgentStatus $status): void
{
    $changed = $status->getChanged() ? 'changed' : 'unchanged';
    say("status of $agent: {$status->getAgentStatus()}, $changed, deliveries {$status->getDeliveries()}");
}

$available = new Model\AgentStatusUpdate(['agent_status' => Model\AgentStatusValue::AVAILABLE]);
sayStatus('local agent ' . LOCAL, $statuses->putLocalAgentStatus(CLIENT, LOCAL, $available));
sayStatus('remote agent ' . REMOTE, $statuses->putRemoteAgentStatus(CLIENT, REMOTE, $available));

// The time is a string: this SDK does not format a DateTime in a query.
$since = (new DateTime('-1 hour'))->format(DATE_ATOM);
$delivered = [];
for ($i = 0; $i < 100 && count($delivered) !== 2; $i++) {
    usleep(100_000);
    $delivered = $deliveries->listDeliveries(CLIENT, state: Model\DeliveryState::DELIVERED, since: $since);
}
say('delivered: ' . count($delivered));

$page = $deliveries->listDeliveries(CLIENT, limit: 1);
while ($page) {
    say('page: ' . listed($page, fn (Model\Delivery $d) => "{$d->getAgentType()} {$d->getAgentId()}"));
    $page = $deliveries->listDeliveries(CLIENT, limit: 1, before: end($page)->getId());
}
say('page: empty');

say('feed: ' . listed(
    $statuses->listStatusChanges(CLIENT),
    fn (Model\StatusChange $c) => "{$c->getAgentType()} {$c->getAgentId()} {$c->getAgentStatus()}"
));

foreach (array_reverse($delivered) as $delivery) {
    $data = $deliveries->getDelivery(CLIENT, $delivery->getId())->getRequest()->getData();
    $name = $data->getExtensionName() ?? $data->getAgentNumber();
    say("data: {$data->getAgentStatus()} {$data->getAgentType()} {$data->getEventSource()} {$data->getAgentId()} $name");
}

try {
    $agents->getLocalAgent(CLIENT, 999);
} catch (ApiException $e) {
    $error = $e->getResponseObject();
    assert($error instanceof Model\ErrorResponse);
    say("error: {$e->getCode()} {$error->getStatus()}");
}

$events->deleteLocalAgentEvent(CLIENT, LOCAL, $localEvent->getId());
$events->deleteRemoteAgentEvent(CLIENT, REMOTE, $remoteEvent->getId());
$agents->deleteLocalAgent(CLIENT, LOCAL);
$agents->deleteRemoteAgent(CLIENT, REMOTE);
$clients->deleteClient(CLIENT);
say('deleted: events, agents, client');
