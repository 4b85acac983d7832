# graphql-ruby 1.13 in Rails 6.1 on Puma, with the controller that the generator of graphql-ruby
# writes, reached by any method. Rails merges the parameters of URL, form and JSON body for any
# method, and a route takes a format (/graphql.json).
require 'logger'
require 'rails'
require 'action_controller/railtie'
require 'graphql'
require 'puma'
require_relative 'schema'

class App < Rails::Application
  config.eager_load = true
  config.consider_all_requests_local = false
  config.secret_key_base = 'the rig has no secrets'
  config.logger = Logger.new(File::NULL)
  config.hosts.clear
  config.api_only = true
  routes.append do
    match '/graphql', to: 'graphql#execute', via: :all
    get '/__counter', to: ->(_) { [200, {}, [$counter.to_s]] }
  end
end

class GraphqlController < ActionController::API
  def execute
    result =
      if params[:_json]
        params[:_json].map { |entry| run(entry) }
      else
        run(params)
      end
    render json: result
  rescue StandardError, SystemStackError => e
    render json: { errors: [{ message: e.class.name }] }, status: 400
  end

  private

  def run(params)
    SCHEMA.execute(params[:query], variables: variables(params[:variables]), operation_name: params[:operationName]).to_h
  end

  # As the generator writes it.
  def variables(param)
    case param
    when String then param.present? ? JSON.parse(param) || {} : {}
    when ActionController::Parameters then param.to_unsafe_hash
    when nil then {}
    else raise ArgumentError, "Unexpected parameter: #{param}"
    end
  end
end

App.initialize!
server = Puma::Server.new(App, Puma::Events.null, min_threads: 4, max_threads: 4)
port = server.add_tcp_listener('127.0.0.1', 0).addr[1]
puts "listening 127.0.0.1:#{port}"
$stdout.flush
server.run.join
