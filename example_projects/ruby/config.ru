# A Rack application without a framework: any Rack application (Rails, Sinatra) is served in the same way.
class Hello
  def call(env)
    request = Rack::Request.new(env)
    case request.path
    when '/' then [200, { 'content-type' => 'text/plain' }, [greeting(request)]]
    when '/echo' then [200, { 'content-type' => 'application/octet-stream' }, [request.body.read]]
    else [404, { 'content-type' => 'text/plain' }, ["not found\n"]]
    end
  end

  private

  def greeting(request)
    "Hello from process #{Process.pid}, #{request.request_method} of #{request.ip} by #{request.scheme}\n"
  end
end

run Hello.new
