# The shapes of test_generic_servers.py for Rack.
require 'json'

# The first event, and the others once there is a file of that name.
class Events
  def initialize(path) = @path = path

  def each
    yield "data: 1\n\n"
    sleep 0.005 until File.exist?(@path)
    yield "data: 2\n\n"
    yield "data: 3\n\n"
  end
end

class Big
  def initialize(size) = @size = size

  def each
    left = @size
    while left.positive?
      yield 'x' * [left, 65_536].min
      left -= 65_536
    end
  end
end

run(lambda do |env|
  request = Rack::Request.new(env)
  plain = { 'content-type' => 'text/plain' }
  case request.path
  when '/echo' then [200, plain, [request.body.read]]
  when '/big'
    size = request.query_string.to_i
    [200, plain.merge('content-length' => size.to_s), Big.new(size)]
  when '/events' then [200, { 'content-type' => 'text/event-stream' }, Events.new(request.query_string)]
  when '/about' then [200, plain, [JSON.generate(ip: request.ip, scheme: request.scheme, host: request.host_with_port)]]
  else
    request.body&.read
    [200, plain, [Process.pid.to_s]]
  end
end)
