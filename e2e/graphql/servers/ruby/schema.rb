# What the two Ruby servers of the rig share: the counter, and the schema whose mutations raise it.
require 'graphql'

$counter = 0
$lock = Mutex.new
def raise_counter = $lock.synchronize { $counter += 1 }

resolvers = Hash.new { |all, type| all[type] = Hash.new { |_, field| ->(*) { type == 'Query' ? field : raise_counter } } }
resolvers['Query']['node'] = ->(*) { {} }
resolvers['Query']['counter'] = ->(*) { $counter }
resolvers['Query']['echo'] = ->(_, args, _) { args[:x] || args['x'] }
SCHEMA = GraphQL::Schema.from_definition(File.read(ENV['SCHEMA']), default_resolve: lambda { |type, field, object, args, context|
  resolvers[type.graphql_name][field.graphql_name].call(object, args, context)
})
