-- Loaded by wrk (Wrk.ts): checks status and whole body of each answer, and prints what was counted as one line of JSON.
-- Arguments: the method, the body that is sent, the body that must come back.
local threads = {}

function setup(thread) table.insert(threads, thread) end

function init(args)
  good, bad = 0, 0
  wrk.method = args[1]
  if args[2] ~= "" then wrk.body = args[2] end
  expected = args[3]
end

function response(status, headers, body)
  if status == 200 and body == expected then good = good + 1 else bad = bad + 1 end
end

function done(summary, latency, requests)
  local good, bad = 0, 0
  for _, thread in ipairs(threads) do
    good = good + thread:get("good")
    bad = bad + thread:get("bad")
  end
  local errors = summary.errors
  io.write(string.format(
    '{"seconds":%.6f,"good":%d,"bad":%d,"errors":%d,"timeouts":%d,"p50Ms":%.3f,"p99Ms":%.3f}\n',
    summary.duration / 1e6, good, bad, errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
