// JobView: how far one job is, as `watch` shows it, in lines that overwrite themselves. Shows
// nothing where standard output is no terminal, or is asked for JSON.
#pragma once

#include <cstddef>

#include "schema/json.h"
#include "tools/ctl/activity.h"
#include "tools/ctl/ctl.h"

namespace cairn::ctl {

class JobView {
 public:
  explicit JobView(const Options& options)
      : shows_(options.output == Output::kText && options.style.moves) {}
  JobView(const JobView&) = delete;
  JobView& operator=(const JobView&) = delete;
  ~JobView() { clear(); }

  // `job` is what query-jobs tells of it; it counts bytes.
  void show(const schema::JsonValue& job);
  // Takes away what is on the terminal.
  void clear();

 private:
  bool shows_;
  size_t lines_ = 0;  // on the terminal
  Activity activity_;
};

}  // namespace cairn::ctl
