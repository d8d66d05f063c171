# frozen_string_literal: true

# The calls of all programs, through the SDK of openapi-generator for Ruby.

require 'json'
require 'time'
require 'uri'
require 'openapi_client'

include OpenapiClient

CLIENT = '35'
LOCAL = 136
REMOTE = 7
EXTENSION = '000*094@ringme.ru'
NUMBER = 'Доб. *7@Юг'

base = URI(ENV.fetch('BASE_URL'))
OpenapiClient.configure do |config|
  config.scheme = base.scheme
  config.host = "#{base.host}:#{base.port}"
  config.base_path = base.path
end

token = AccessApi.new.request_token('client_credentials', ENV.fetch('CLIENT_ID'), ENV.fetch('CLIENT_SECRET'))
puts "token: #{token.token_type}, for #{token.expires_in} s"

OpenapiClient.configure { |config| config.access_token = token.access_token }
clients = ClientApi.new
agents = AgentApi.new
events = EventApi.new
statuses = StatusApi.new
deliveries = DeliveryApi.new

client = clients.put_client(CLIENT, ClientUpdate.new(name: 'Ромашка'))
puts "client: #{client.id} #{client.name}"
local = agents.put_local_agent(CLIENT, LOCAL, LocalAgentUpdate.new(extension_name: EXTENSION))
puts "local agent: #{local.id} #{local.extension_name} #{local.agent_status}"
remote = agents.put_remote_agent(CLIENT, REMOTE, RemoteAgentUpdate.new(agent_number: NUMBER))
puts "remote agent: #{remote.id} #{remote.agent_number} #{remote.agent_status}"
puts "local agents: #{agents.list_local_agents(CLIENT).map { |a| "#{a.id} #{a.extension_name}" }.join(', ')}"
puts "remote agents: #{agents.list_remote_agents(CLIENT).map { |a| "#{a.id} #{a.agent_number}" }.join(', ')}"

login = AgentEventCreate.new(url: ENV.fetch('RECEIVER_URL'), method: RequestMethod::POST, event_type: EventType::AGENT_LOGIN)
local_event = events.create_local_agent_event(CLIENT, LOCAL, login)
puts "event of local agent #{LOCAL}: #{local_event.method} #{local_event.event_type}"
remote_event = events.create_remote_agent_event(CLIENT, REMOTE, login)
puts "event of remote agent #{REMOTE}: #{remote_event.method} #{remote_event.event_type}"

def put_status(agent, status)
  changed = status.changed ? 'changed' : 'unchanged'
  puts "status of #{agent}: #{status.agent_status}, #{changed}, deliveries #{status.deliveries}"
end

available = AgentStatusUpdate.new(agent_status: AgentStatusValue::AVAILABLE)
put_status("local agent #{LOCAL}", statuses.put_local_agent_status(CLIENT, LOCAL, available))
put_status("remote agent #{REMOTE}", statuses.put_remote_agent_status(CLIENT, REMOTE, available))

# The time is a string: this SDK sends Time#to_s in a query, which is not RFC 3339.
since = (Time.now - 3600).iso8601
delivered = []
100.times do
  delivered = deliveries.list_deliveries(CLIENT, state: DeliveryState::DELIVERED, since: since)
  break if delivered.size == 2

  sleep 0.1
end
puts "delivered: #{delivered.size}"

page = deliveries.list_deliveries(CLIENT, limit: 1)
until page.empty?
  puts "page: #{page.map { |d| "#{d.agent_type} #{d.agent_id}" }.join(', ')}"
  page = deliveries.list_deliveries(CLIENT, limit: 1, before: page.last.id)
end
puts 'page: empty'

feed = statuses.list_status_changes(CLIENT)
puts "feed: #{feed.map { |c| "#{c.agent_type} #{c.agent_id} #{c.agent_status}" }.join(', ')}"

delivered.reverse_each do |delivery|
  data = deliveries.get_delivery(CLIENT, delivery.id).request.data
  name = data.extension_name || data.agent_number
  puts "data: #{data.agent_status} #{data.agent_type} #{data.event_source} #{data.agent_id} #{name}"
end

begin
  agents.get_local_agent(CLIENT, 999)
rescue ApiError => e
  error = ErrorResponse.build_from_hash(JSON.parse(e.response_body, symbolize_names: true))
  puts "error: #{e.code} #{error.status}"
end

events.delete_local_agent_event(CLIENT, LOCAL, local_event.id)
events.delete_remote_agent_event(CLIENT, REMOTE, remote_event.id)
agents.delete_local_agent(CLIENT, LOCAL)
agents.delete_remote_agent(CLIENT, REMOTE)
clients.delete_client(CLIENT)
puts 'deleted: events, agents, client'
