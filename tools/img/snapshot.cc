// cairn-img snapshot
#include <time.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "block/node_info.h"
#include "schema/types_block_info.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/common/snapshots.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

enum class Action { kList, kApply, kCreate, kDelete };

struct SnapshotRequest {
  ImageName image;
  bool force_share = false;
  std::optional<Action> action;
  std::string name;
};

constexpr size_t kLongestName = 255;

int fail_snapshot(std::string_view what, const std::string& name, std::string_view why) {
  report_error(fmt::format("Could not {} snapshot '{}': {}", what, name, why));
  return 1;
}

void list(const block::Edge& root) {
  const Result<std::vector<block::Snapshot>> snapshots = root.snapshots();
  if (!snapshots) {
    return;  // a format that has none lists none
  }
  std::vector<schema::SnapshotInfo> infos;
  for (const block::Snapshot& snapshot : *snapshots) {
    infos.push_back(describe_snapshot(snapshot));
  }
  fmt::print("{}", snapshot_list_text(infos));
}

io::Task<int> create(block::Edge& root, const SnapshotRequest& request) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  block::Snapshot snapshot;
  snapshot.name = request.name.substr(0, kLongestName);
  snapshot.date_seconds = static_cast<uint64_t>(now.tv_sec);
  snapshot.date_nanoseconds = static_cast<uint32_t>(now.tv_nsec);
  snapshot.icount = 0;  // no machine has run
  Result<void> created = co_await root.create_snapshot(std::move(snapshot));
  if (!created) {
    // Scripts match the short form.
    co_return fail_snapshot("create", request.name,
                            Error::from_errno(created.error().code()).message());
  }
  co_return 0;
}

io::Task<int> apply(block::Graph& graph, block::Edge& root, const SnapshotRequest& request) {
  const Result<std::vector<block::Snapshot>> snapshots = root.snapshots();
  if (!snapshots) {
    co_return fail_snapshot("apply", request.name, snapshots.error().message());
  }
  // The disk gets the size that it had.
  block::Permissions permissions = root.permissions();
  permissions.used |= block::PermissionSet::kResize;
  if (const auto granted = graph.set_permissions(root, permissions); !granted) {
    co_return fail_command(granted.error());
  }
  const block::Snapshot* found = block::find_snapshot(*snapshots, request.name);
  if (found == nullptr) {
    // An image that can have none, or that can not go back, says so.
    const Result<void> tried = co_await root.apply_snapshot(request.name);
    if (!tried && tried.error().code() == EBUSY) {
      co_return fail_snapshot("apply", request.name, tried.error().message());
    }
    const int code = !tried && tried.error().code() == ENOTSUP ? ENOTSUP : ENOENT;
    const Error error = Error::from_errno(code, "Failed to load snapshot");
    co_return fail_snapshot("apply", request.name, error.message());
  }
  Result<void> applied = co_await root.apply_snapshot(found->id);
  if (!applied) {
    co_return fail_snapshot("apply", request.name, applied.error().message());
  }
  co_return 0;
}

io::Task<int> remove(block::Edge& root, const SnapshotRequest& request) {
  const Result<std::vector<block::Snapshot>> snapshots = root.snapshots();
  // By name alone: what one name deletes does not depend on how many there were before.
  const block::Snapshot* found =
      snapshots ? block::find_snapshot_by_name(*snapshots, request.name) : nullptr;
  if (found == nullptr) {
    co_return fail_snapshot("delete", request.name, "snapshot not found");
  }
  Result<void> deleted = co_await root.delete_snapshot(found->id);
  if (!deleted) {
    co_return fail_snapshot("delete", request.name, deleted.error().message());
  }
  co_return 0;
}

io::Task<int> act(block::Graph& graph, block::Edge& root, const SnapshotRequest& request) {
  switch (request.action.value_or(Action::kList)) {
    case Action::kApply:
      co_return co_await apply(graph, root, request);
    case Action::kCreate:
      co_return co_await create(root, request);
    case Action::kDelete:
      co_return co_await remove(root, request);
    case Action::kList:
      break;
  }
  list(root);
  co_return 0;
}

io::Task<int> run(block::Graph& graph, const SnapshotRequest& request) {
  const bool changes = request.action.value_or(Action::kList) != Action::kList;
  const block::OpenFlags flags{.read_only = !changes, .force_share = request.force_share};
  auto root = co_await open_root(graph, request.image, flags);
  if (!root) {
    co_return fail_command(root.error());
  }
  const int code = co_await act(graph, **root, request);
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (code == 0 && !closed) {
    co_return fail_command(closed.error());
  }
  co_return code;
}

std::optional<Action> action_of(int id) {
  switch (id) {
    case 'l':
      return Action::kList;
    case 'a':
      return Action::kApply;
    case 'c':
      return Action::kCreate;
    case 'd':
      return Action::kDelete;
    default:
      return std::nullopt;
  }
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, SnapshotRequest& request) {
  while (const auto option = line.next()) {
    if (const auto action = action_of(option->id)) {
      if (request.action) {
        return line.misuse("Cannot mix '-l', '-a', '-c', '-d'");
      }
      request.action = action;
      request.name = option->value;
    } else if (option->id == 'f') {
      request.image.give_format(option->value);
    } else if (option->id == 'U') {
      request.force_share = true;
    } else if (option->id == kOptImageOpts) {
      request.image.by_options = true;
    }
    // Nothing is shown that --quiet could leave out.
  }
  return line.exit_code();
}

}  // namespace

int img_snapshot(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 OptionSpec{'l', "list", false},
                                 OptionSpec{'a', "apply", true},
                                 OptionSpec{'c', "create", true},
                                 OptionSpec{'d', "delete", true}};
  SnapshotRequest request;
  ImgCommandLine line("snapshot", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 1) {
    return line.misuse("Expecting one image file name");
  }
  request.image.text = operands.front();
  if (request.image.by_options && request.image.format_given) {
    report_error("--image-opts and --format are mutually exclusive");
    return 1;
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  (*session)->reactor().copies().keep_here();  // table after table, nothing beside it
  return (*session)->run(run((*session)->graph(), request));
}

}  // namespace cairn::tools
