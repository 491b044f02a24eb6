// Events: in a line for people, and whether one is the one that is waited for.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "schema/json.h"

namespace cairn::ctl {

// "2026-01-01 12:00:00.123  JOB_STATUS_CHANGE  id=j  status=running", in local time.
[[nodiscard]] std::string describe_event(const schema::JsonValue& event);

// It is called `name`, and each condition KEY=VALUE (with a dotted key) holds in its data.
[[nodiscard]] bool event_matches(const schema::JsonValue& event, std::string_view name,
                                 std::span<const std::string> conditions);

}  // namespace cairn::ctl
