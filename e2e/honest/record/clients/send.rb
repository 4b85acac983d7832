# Sends the requests of a plan with Ruby's Net::HTTP.
require "json"
require "net/http"

JSON.parse(File.read(ARGV[0])).each do |r|
  uri = URI(r["url"])
  request = Net::HTTPGenericRequest.new(r["method"], !r["body"].nil?, r["method"] != "HEAD", uri, r["headers"])
  request.body = r["body"] unless r["body"].nil?
  Net::HTTP.start(uri.host, uri.port) { |http| http.request(request) }
end
puts "Net::HTTP of Ruby #{RUBY_VERSION}"
