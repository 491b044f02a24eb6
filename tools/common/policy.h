// --policy: how far images are trusted that others made: what the graph lets them bring about
// (block/open_policy.h), and how much time and memory they may cost the program.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "block/open_policy.h"

namespace cairn::tools {

struct Policy {
  block::OpenPolicy images;
  unsigned seconds = 0;  // for all that the program does; 0: any
  uint64_t memory = 0;   // bytes, at any time; 0: any
  int exit_code = 1;     // when one of these is used up
};

// "trusted", or "untrusted[,formats=NAME:NAME…][,max-size=SIZE][,max-time=SECONDS]
// [,max-memory=SIZE]". What is not said is as it suits `command`, a subcommand of cairn-img.
[[nodiscard]] Result<Policy> parse_policy(std::string_view text, std::string_view command);

// The one that the program was started with: by default that of the field, which trusts.
[[nodiscard]] const Policy& program_policy();
[[nodiscard]] Result<void> set_program_policy(std::string_view text, std::string_view command);

// Has the system hold the program to the policy's time and memory from now on: it ends, with a
// message and its exit code, when there is no more of one. A program that waits for signals is sent
// SIGTERM first when the time is up, so that it can clean up.
[[nodiscard]] Result<void> enforce_policy(const Policy& policy);

}  // namespace cairn::tools
