#include "filters/blkdebug/rules.h"

#include <algorithm>

namespace cairn::filters::blkdebug {

namespace {

constexpr uint64_t kSector = 512;

bool concerns(const ErrorRule& rule, RequestKind kind, uint64_t offset, uint64_t length) {
  if (rule.kind ? *rule.kind != kind : kind == RequestKind::kBlockStatus) {
    return false;
  }
  if (rule.sector < 0) {
    return true;
  }
  const uint64_t at = static_cast<uint64_t>(rule.sector) * kSector;
  return length != 0 && at >= offset && at - offset < length;
}

}  // namespace

void Rules::add(block::FaultPoint point, const ErrorRule& rule) {
  points_[point].errors.push_back({++last_number_, rule});
}

void Rules::add(block::FaultPoint point, const StateRule& rule) {
  points_[point].states.push_back(rule);
}

void Rules::reached(block::FaultPoint point) {
  const auto found = points_.find(point);
  if (found == points_.end()) {
    return;
  }
  const int64_t state = state_;
  const auto applies = [state](const auto& rule) { return rule.state == 0 || rule.state == state; };
  std::vector<Numbered> now;
  std::ranges::copy_if(found->second.errors, std::back_inserter(now),
                       [&](const Numbered& numbered) { return applies(numbered.rule); });
  if (!now.empty()) {
    holding_ = std::move(now);
  }
  // The first that applies decides.
  const auto next = std::ranges::find_if(found->second.states, applies);
  if (next != found->second.states.end()) {
    state_ = next->new_state;
  }
}

std::optional<ErrorRule> Rules::failure_of(RequestKind kind, uint64_t offset, uint64_t length) {
  const auto found = std::ranges::find_if(holding_, [&](const Numbered& numbered) {
    return concerns(numbered.rule, kind, offset, length);
  });
  if (found == holding_.end() || found->rule.error <= 0) {
    return std::nullopt;
  }
  const Numbered failed = *found;
  if (failed.rule.once) {
    holding_.erase(found);
    for (auto& [point, rules] : points_) {
      std::erase_if(rules.errors,
                    [&](const Numbered& numbered) { return numbered.number == failed.number; });
    }
  }
  return failed.rule;
}

}  // namespace cairn::filters::blkdebug
