# Rack 2.2 alone, with the middleware that most of its frameworks have, and its own parser of forms,
# on Puma or WEBrick. The two servers name the variables of headers differently.
#
# Started as: ruby servers/ruby/rack.rb puma
#             ruby servers/ruby/rack.rb webrick
require 'rack'
require_relative 'counter'

WRITES = %w[POST PUT PATCH DELETE].freeze

application = lambda do |env|
  request = Rack::Request.new(env)
  path = request.path_info.chomp('/')
  begin
    request.params # as in every application that reads one
  rescue StandardError
    next [400, { 'Content-Type' => 'text/plain' }, ['bad request']]
  end
  write = case path
          when '/__counter' then next [200, { 'Content-Type' => 'text/plain' }, [Counter.value]]
          when '/orders', '/orders/1' then WRITES.include?(request.request_method)
          when '/search', '/login' then (WRITES - %w[POST]).include?(request.request_method)
          when '/tenant' then request.host == 'orders.test' && WRITES.include?(request.request_method)
          when '/logout' then request.get?
          when '/healthz' then false
          else next [404, { 'Content-Type' => 'text/plain' }, ['not found']]
          end
  [200, { 'Content-Type' => 'text/plain' }, [write ? Counter.raise : 'read']]
end

application = Rack::Builder.new do
  use Rack::Head
  use Rack::MethodOverride
  run application
end.to_app

case ARGV[0]
when 'puma'
  require 'puma'
  require 'puma/server'
  server = Puma::Server.new(application)
  listener = server.add_tcp_listener('127.0.0.1', 0)
  thread = server.run
  puts "listening 127.0.0.1:#{listener.addr[1]}"
  $stdout.flush
  thread.join
when 'webrick'
  require 'webrick'
  require 'rack/handler/webrick'
  # A server that asks for port 0 knows its port once it listens.
  Rack::Handler::WEBrick.run(application, Host: '127.0.0.1', Port: 0, Logger: WEBrick::Log.new(IO::NULL), AccessLog: []) do |server|
    puts "listening 127.0.0.1:#{server.listeners.first.addr[1]}"
    $stdout.flush
  end
else
  abort 'usage: rack.rb puma|webrick'
end
