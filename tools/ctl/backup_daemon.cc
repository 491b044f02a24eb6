#include "tools/ctl/backup_daemon.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <fmt/format.h>

#include "tools/ctl/interrupt.h"
#include "tools/ctl/job_view.h"
#include "tools/ctl/json.h"

namespace cairn::ctl {

namespace {

using schema::JsonObject;
using schema::JsonValue;

// Events wake us; this is for the view, and for a signal that came just before the waiting.
constexpr std::chrono::milliseconds kMoment(400);

// In an image of version 3 of qcow2, which we may write to.
bool can_keep_bitmaps(const JsonObject& node, const JsonObject& image) {
  const JsonObject* specific = object_in(image, "format-specific");
  const JsonObject* data = specific ? object_in(*specific, "data") : nullptr;
  return text_in(node, "drv") == "qcow2" && !flag_in(node, "ro") && data &&
         text_in(*data, "compat") != "0.10";
}

DiskNode describe_node(const JsonObject& info) {
  DiskNode node{
      .name = text_in(info, "node-name"), .size = 0, .keeps_bitmaps = false, .bitmaps = {}};
  if (const JsonObject* image = object_in(info, "image")) {
    node.size = static_cast<uint64_t>(std::max<int64_t>(number_in(*image, "virtual-size", 0), 0));
    node.keeps_bitmaps = can_keep_bitmaps(info, *image);
  }
  for (const JsonObject* bitmap : objects_in(info.find("dirty-bitmaps"))) {
    node.bitmaps.push_back({.name = text_in(*bitmap, "name"),
                            .recording = flag_in(*bitmap, "recording"),
                            .inconsistent = flag_in(*bitmap, "inconsistent")});
  }
  return node;
}

}  // namespace

JsonObject json_object(std::initializer_list<std::pair<std::string_view, JsonValue>> members) {
  JsonObject object;
  for (const auto& [name, value] : members) {
    object.add(std::string(name), value);
  }
  return object;
}

JsonValue transaction_action(std::string_view type, JsonObject data) {
  return json_object({{"type", type}, {"data", std::move(data)}});
}

const DiskBitmap* DiskNode::find(std::string_view bitmap) const {
  const auto at = std::ranges::find(bitmaps, bitmap, &DiskBitmap::name);
  return at == bitmaps.end() ? nullptr : &*at;
}

Result<JsonValue> BackupDaemon::call(std::string_view command, JsonObject arguments) {
  auto reply = connection_.execute(command, std::move(arguments));
  if (!reply) {
    lost_ = true;
    return pass(reply);
  }
  if (reply->refused) {
    return fail(EIO, "{}: {}", command, clean(reply->description));
  }
  return std::move(reply->value);
}

Result<DiskNode> BackupDaemon::find_node(const std::string& name) {
  const auto nodes = call("query-named-block-nodes", json_object({{"flat", true}}));
  if (!nodes) {
    return std::unexpected(nodes.error());
  }
  for (const JsonObject* info : objects_in(&*nodes)) {
    if (text_in(*info, "node-name") == name) {
      return describe_node(*info);
    }
  }
  return fail(ENODEV, "There is no node '{}'", clean(name));
}

Result<void> BackupDaemon::create_image(const NewImage& image) {
  const bool raw = image.format == "raw";
  auto started =
      call("blockdev-create",
           json_object({{"job-id", job_},
                        {"options", json_object({{"driver", "file"},
                                                 {"filename", image.path},
                                                 {"size", raw ? image.size : uint64_t{0}}})}}));
  if (!started) {
    return pass(started);
  }
  auto made = finish_job();
  if (!made || raw) {
    return made;
  }
  JsonObject file = json_object({{"driver", "file"}, {"filename", image.path}});
  JsonObject options =
      json_object({{"driver", image.format}, {"file", std::move(file)}, {"size", image.size}});
  if (!image.backing.empty()) {
    options.add("backing-file", image.backing);
    options.add("backing-fmt", "qcow2");
  }
  started =
      call("blockdev-create", json_object({{"job-id", job_}, {"options", std::move(options)}}));
  if (!started) {
    return pass(started);
  }
  return finish_job();
}

Result<JsonValue> BackupDaemon::find_job() {
  const auto jobs = call("query-jobs");
  if (!jobs) {
    return std::unexpected(jobs.error());
  }
  for (const JsonObject* job : objects_in(&*jobs)) {
    if (text_in(*job, "id") == job_) {
      return JsonValue(*job);
    }
  }
  return JsonValue();
}

Result<void> BackupDaemon::wait_a_moment() {
  auto event = connection_.next_event(Clock::now() + kMoment);
  if (!event && event.error().code() != EINTR) {
    lost_ = true;
    return pass(event);
  }
  return {};
}

Result<std::string> BackupDaemon::wait_for_end(bool cancel) {
  JobView view(options_);
  bool cancelled = false;
  while (true) {
    const auto job = find_job();
    if (!job) {
      return std::unexpected(job.error());
    }
    if (job->is_null()) {
      return fail(ECANCELED, "The job '{}' was dismissed by somebody else", job_);
    }
    if (text_in(*job->as_object(), "status") == "concluded") {
      return clean_text_in(*job->as_object(), "error");
    }
    view.show(*job);
    if (!cancelled && (cancel || interrupted())) {
      cancelled = true;
      // Refused by jobs that can not be cancelled: they end by themselves, and by those that have
      // ended just now.
      auto asked = call("job-cancel", json_object({{"id", job_}}));
      if (!asked && lost_) {
        return pass(asked);
      }
    }
    auto waited = wait_a_moment();
    if (!waited) {
      return pass(waited);
    }
  }
}

Result<void> BackupDaemon::finish_job() {
  auto failed = wait_for_end(false);
  if (!failed) {
    return pass(failed);
  }
  auto dismissed = call("job-dismiss", json_object({{"id", job_}}));
  if (interrupted()) {
    return fail(EINTR, "Interrupted");
  }
  if (!failed->empty()) {
    return fail(EIO, "{}", *failed);
  }
  if (!dismissed) {
    return pass(dismissed);
  }
  return {};
}

Result<void> BackupDaemon::clear(std::span<const std::string> nodes) {
  const auto job = find_job();
  if (!job) {
    return std::unexpected(job.error());
  }
  if (!job->is_null()) {
    auto ended = wait_for_end(true);
    if (!ended) {
      return pass(ended);
    }
    auto dismissed = call("job-dismiss", json_object({{"id", job_}}));
    if (!dismissed) {
      return pass(dismissed);
    }
  }
  for (const std::string& name : nodes) {
    const auto node = find_node(name);
    if (!node && node.error().code() == ENODEV) {
      continue;
    }
    if (!node) {
      return std::unexpected(node.error());
    }
    auto removed = remove_node(name);
    if (!removed && (lost_ || find_node(name))) {
      return removed;
    }
    // Where there is no room for the last of an image that nobody wants, its node goes even so.
  }
  return {};
}

Result<void> BackupDaemon::remove_node(const std::string& name) {
  auto removed = call("blockdev-del", json_object({{"node-name", name}}));
  if (!removed) {
    return pass(removed);
  }
  return {};
}

}  // namespace cairn::ctl
