# A whole Rails application (6.1, not api_only, so with Rack::MethodOverride) on Puma, with
# graphql-ruby in a controller as its generator writes it.
#
# Started as: ruby servers/ruby/rails.rb
ENV['RAILS_ENV'] = 'production'
require 'rails'
require 'action_controller/railtie'
require 'graphql'
require 'puma'
require 'puma/server'
require_relative 'counter'

class Shop < Rails::Application
  config.load_defaults 6.1
  config.root = __dir__
  config.eager_load = true
  config.secret_key_base = 'a secret of the rig, not of anybody'
  config.logger = Logger.new(IO::NULL)
  config.consider_all_requests_local = false
end

Shop.initialize!

# Endpoints for programs do not have a CSRF token.
class ApplicationController < ActionController::Base
  skip_forgery_protection
end

class OrdersController < ApplicationController
  def read = render(plain: 'read')
  def write = render(plain: Counter.raise)
  def counter = render(plain: Counter.value)
end

class GraphqlController < ApplicationController
  class Query < GraphQL::Schema::Object
    field :a, String, null: true
    def a = 'a'
  end

  class Mutation < GraphQL::Schema::Object
    field :b, String, null: true
    def b = Counter.raise
  end

  class Schema < GraphQL::Schema
    query Query
    mutation Mutation
  end

  def execute
    variables = params[:variables]
    variables = variables.present? ? JSON.parse(variables) : {} if variables.is_a?(String)
    variables = variables.to_unsafe_hash if variables.respond_to?(:to_unsafe_hash)
    render json: Schema.execute(params[:query], variables: variables || {}, operation_name: params[:operationName])
  end
end

Shop.routes.draw do
  writes = %i[post put patch delete]
  get '/__counter', to: 'orders#counter'
  get '/orders', to: 'orders#read'
  get '/orders/:id', to: 'orders#read'
  match '/orders', to: 'orders#write', via: writes
  match '/orders/:id', to: 'orders#write', via: writes
  get '/logout', to: 'orders#write'
  %w[/search /login].each do |path|
    match path, to: 'orders#read', via: %i[get post]
    match path, to: 'orders#write', via: writes - [:post]
  end
  match '/graphql', to: 'graphql#execute', via: :all
  constraints host: 'orders.test' do
    match '/tenant', to: 'orders#write', via: writes
  end
  match '/tenant', to: 'orders#read', via: :all
  match '/healthz', to: 'orders#read', via: :all
end

server = Puma::Server.new(Shop)
listener = server.add_tcp_listener('127.0.0.1', 0)
thread = server.run
puts "listening 127.0.0.1:#{listener.addr[1]}"
$stdout.flush
thread.join
