// `cairnctl backup prune`: gives old points up, and keeps the newest and what they need.
//
// The list is replaced before a file is removed. Files that a killed run has left are older than
// the first point of the list, and go with the next run.
#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tools/ctl/backup.h"
#include "tools/ctl/backup_files.h"

namespace cairn::ctl {

namespace {

// The points before the full one that the oldest of the `keep` newest needs.
std::span<const BackupPoint> points_to_drop(const BackupChain& chain, uint64_t keep) {
  if (chain.points.size() <= keep) {
    return {};
  }
  const BackupPoint& oldest = chain.points[chain.points.size() - keep];
  const BackupPoint* first = chain.needed_for(oldest.number).data();
  return {chain.points.data(), first};
}

// The number of an image of a chain by its name; 0 for other files.
uint64_t number_of(const std::string& name) {
  uint64_t number = 0;
  std::from_chars(name.data(), name.data() + name.size(), number);
  return number != 0 && backup_file(number) == name ? number : 0;
}

// Images of numbers before `first`.
Result<std::vector<std::string>> older_files(const std::string& directory, uint64_t first) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    std::string name = at->path().filename().string();
    const uint64_t number = number_of(name);
    if (number != 0 && number < first) {
      found.push_back(std::move(name));
    }
  }
  if (error) {
    return fail(error.value(), "Could not read '{}': {}", directory, error.message());
  }
  std::ranges::sort(found);
  return found;
}

struct Pruned {
  std::vector<std::string> removed;  // files
  uint64_t left = 0;                 // points
};

Result<Pruned> prune(const std::string& directory, uint64_t keep) {
  auto lock = lock_directory(directory);
  if (!lock) {
    return pass(lock);
  }
  auto chain = need_chain(directory);
  if (!chain) {
    return pass(chain);
  }
  const size_t dropped = points_to_drop(*chain, keep).size();
  if (dropped > 0) {
    chain->points.erase(chain->points.begin(),
                        chain->points.begin() + static_cast<std::ptrdiff_t>(dropped));
    auto saved = save_backup_chain(directory, *chain);
    if (!saved) {
      return pass(saved);
    }
  }
  if (chain->points.empty()) {
    return Pruned{};
  }
  auto files = older_files(directory, chain->points.front().number);
  if (!files) {
    return pass(files);
  }
  for (const std::string& name : *files) {
    auto removed = remove_file(fmt::format("{}/{}", directory, name));
    if (!removed) {
      return pass(removed);
    }
  }
  return Pruned{.removed = std::move(*files), .left = chain->points.size()};
}

}  // namespace

Exit run_backup_prune(const Options& options, const std::string& directory) {
  if (!options.keep) {
    return complain(Exit::kUsage, "'backup prune' needs --keep N");
  }
  const auto resolved = resolve_directory(directory);
  if (!resolved) {
    return complain_backup(resolved.error(), false);
  }
  const auto pruned = prune(*resolved, *options.keep);
  if (!pruned) {
    return complain_backup(pruned.error(), false);
  }
  if (options.output != Output::kText) {
    schema::JsonArray removed;
    for (const std::string& name : pruned->removed) {
      removed.emplace_back(name);
    }
    print_value(json_object({{"removed", std::move(removed)}, {"points", pruned->left}}), "",
                options);
    return Exit::kOk;
  }
  for (const std::string& name : pruned->removed) {
    fmt::print("{}: removed\n", name);
  }
  fmt::print("{} points are left\n", pruned->left);
  return Exit::kOk;
}

}  // namespace cairn::ctl
