-- Wireshark fields of a capture that xentrace wrote (-o pcapng): what happened to each
-- packet. Put it into the folder of personal Lua plugins (Help, About, Folders), or:
--   tshark -X lua_script:xentrace.lua -r drops.pcapng -Y 'xentrace.cause == "too_many_slots"'

local xentrace = Proto("xentrace", "xentrace")

local fields = {
	verdict = ProtoField.string("xentrace.verdict", "Verdict"),
	cause = ProtoField.string("xentrace.cause", "Cause"),
	slots = ProtoField.uint32("xentrace.slots", "Slots"),
	limit = ProtoField.uint32("xentrace.limit", "Slot limit"),
	pid = ProtoField.uint32("xentrace.pid", "Process ID"),
	comm = ProtoField.string("xentrace.comm", "Process name"),
}
xentrace.fields = fields

local verdicts = {}
for verdict in ("sent dropped linearized bounced over_limit rejected"):gmatch("%S+") do
	verdicts[verdict] = true
end

-- The comment of a packet, e.g. "dropped: too_many_slots, 35/18 slots, nginx[812]"; cause
-- and process are there if they are known. A drop before the driver is "dropped elsewhere".
local function parse(comment)
	local what, slots, limit, process = comment:match("^([%w_: ]+), (%d+)/(%d+) slots(.*)$")
	if not what then return nil end
	local verdict, cause = what:match("^([%w_]+): ([%w_]+)$")
	verdict = verdict or what:gsub(" elsewhere$", "")
	if not verdicts[verdict] then return nil end
	-- The name of a process may hold anything, the number is behind its last bracket.
	local comm, pid = process:match("^, (.*)%[(%d+)%]$")
	return { verdict = verdict, cause = cause, slots = tonumber(slots), limit = tonumber(limit), comm = comm, pid = tonumber(pid) }
end

local comments = Field.new("frame.comment")

function xentrace.dissector(_, _, tree)
	for _, comment in ipairs({ comments() }) do
		local found = parse(comment.value)
		if found then
			local shown = tree:add(xentrace, "xentrace: " .. comment.value)
			for _, name in ipairs({ "verdict", "cause", "slots", "limit", "comm", "pid" }) do
				if found[name] then shown:add(fields[name], found[name]):set_generated() end
			end
			return -- others are a reader's own, or about the header
		end
	end
end

register_postdissector(xentrace, true) -- with all fields: the comment is one
