-- wrk -t1 -c16 -d5s -s load.lua http://127.0.0.1:8080/v1/completions
-- Prompts of many lengths; every answer must be a completion.
local prompts = {
    "This program is free software", "You may not", "      Copyright (C) ", "1. Definitions.",
    "THE SOFTWARE IS PROVIDED", "x", "Permission to use, copy, modify and distribute this",
}
local number = 0
local wrong = 0

function request()
    number = number + 1
    local body = string.format(
        '{"prompt": "%s", "max_tokens": %d, "temperature": 0.8, "seed": %d}',
        prompts[number % #prompts + 1], 4 + number % 29, number)
    return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, body)
end

function response(status, headers, body)
    if status ~= 200 or not body:find('"text_completion"', 1, true) then
        wrong = wrong + 1
        print("wrong answer: " .. status .. " " .. body:sub(1, 200))
    end
end
