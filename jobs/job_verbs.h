// Which command a job takes in which state.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "jobs/job.h"

namespace cairn::jobs {

// The commands that a state may forbid.
enum class Verb : uint8_t {
  kCancel,
  kPause,
  kResume,
  kSetSpeed,
  kComplete,
  kFinalize,
  kDismiss,
  kChange
};

// EPERM when its state forbids it.
[[nodiscard]] Result<void> check_verb(const Job& job, Verb verb);

}  // namespace cairn::jobs
