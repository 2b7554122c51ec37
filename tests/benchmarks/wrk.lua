-- Sends bodies where asked to (WRK_BODY bytes by POST) and prints the result as one line of JSON.
local size = tonumber(os.getenv("WRK_BODY") or "0")
if size > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", size)
  wrk.headers["Content-Type"] = "application/octet-stream"
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bytes":%d,"seconds":%.6f,"p50":%.1f,"p99":%.1f,"max":%.1f,"failed":%d,"refused":%d,"timeouts":%d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    latency.max, errors.connect + errors.read + errors.write, errors.status, errors.timeout))
end
