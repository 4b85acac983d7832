# graphql-ruby 1.13 on WEBrick, used as in a Rails controller: the parameters of URL, form and JSON
# body are one hash, the method does not matter, and `_json` is a batch.
require 'json'
require 'uri'
require 'webrick'
require 'zlib'
require_relative 'schema'

def execute(params)
  variables = params['variables']
  variables = JSON.parse(variables) if variables.is_a?(String) && !variables.empty?
  SCHEMA.execute(params['query'], variables: variables.is_a?(Hash) ? variables : {}, operation_name: params['operationName']).to_h
end

def params(request)
  all = URI.decode_www_form(request.query_string || '').to_h
  body = request.body.to_s
  body = Zlib.gunzip(body) if request['Content-Encoding'] == 'gzip'
  case request.content_type.to_s
  when /^application\/x-www-form-urlencoded/ then all.merge!(URI.decode_www_form(body).to_h)
  when /^multipart\/form-data/ then all.merge!(request.query.to_h { |k, v| [k, v.to_s] })
  when /^application\/graphql\b/ then all['query'] = body
  else
    unless body.empty?
      data = JSON.parse(body.force_encoding('UTF-8'))
      data = { '_json' => data } if data.is_a?(Array)
      all = data.merge(all)
    end
  end
  all
end

class Endpoint < WEBrick::HTTPServlet::AbstractServlet
  def service(request, response)
    parameters = params(request)
    batch = parameters['_json']
    response['Content-Type'] = 'application/json'
    response.body = JSON.generate(batch ? batch.map { |entry| execute(entry) } : execute(parameters))
  rescue StandardError, SystemStackError => e
    response.status = 400
    response.body = e.class.name
  end
end

server = WEBrick::HTTPServer.new(
  BindAddress: '127.0.0.1', Port: 0, Logger: WEBrick::Log.new(File::NULL), AccessLog: [],
  StartCallback: -> { puts "listening 127.0.0.1:#{$server.listeners.first.addr[1]}"; $stdout.flush }
)
$server = server
server.mount('/graphql', Endpoint)
server.mount_proc('/__counter') { |_, response| response.body = $counter.to_s }
server.start
