#include "tools/ctl/job_view.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "tools/ctl/json.h"

namespace cairn::ctl {

void JobView::show(const schema::JsonValue& job) {
  if (!shows_ || !job.is_object()) {
    return;
  }
  schema::JsonObject device;
  device.add("device", text_in(*job.as_object(), "id"));
  Answers answers;
  answers.jobs = schema::JsonArray{job};
  answers.block_jobs = schema::JsonArray{std::move(device)};
  activity_.take(make_sample(answers, Clock::now()));
  const std::string screen = activity_.screen(terminal_style());
  clear();
  fmt::print("{}", screen);
  std::fflush(stdout);
  lines_ = static_cast<size_t>(std::ranges::count(screen, '\n'));
}

void JobView::clear() {
  if (lines_ > 0) {
    fmt::print("\x1b[{}A\x1b[J", lines_);
    std::fflush(stdout);
    lines_ = 0;
  }
}

}  // namespace cairn::ctl
