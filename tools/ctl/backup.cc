#include "tools/ctl/backup.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "base/size_text.h"
#include "tools/ctl/backup_files.h"
#include "tools/ctl/interrupt.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;

Exit list_backups(const Options& options, const std::string& given) {
  const auto directory = resolve_directory(given);
  if (!directory) {
    return complain_backup(directory.error(), false);
  }
  const auto chain = need_chain(*directory);
  if (!chain) {
    return complain_backup(chain.error(), false);
  }
  if (options.output != Output::kText) {
    print_value(chain->to_json(), "", options);
    return Exit::kOk;
  }
  Table table({{"POINT", true}, {"KIND"}, {"TIME"}, {"SIZE", true}, {"DISK", true}, {"FILE"}});
  for (const BackupPoint& point : chain->points) {
    table.add({fmt::format("{}", point.number), point.full ? "full" : "incremental",
               clean(point.time), format_size(point.length), format_size(point.virtual_size),
               point.file()});
  }
  fmt::print("{}", table.empty() ? "There are no backups yet.\n" : table.text(options.style));
  return Exit::kOk;
}

// A line for each file, or an object for each.
Exit verify_backups(const Options& options, const std::string& given) {
  const auto directory = resolve_directory(given);
  if (!directory) {
    return complain_backup(directory.error(), false);
  }
  const auto chain = need_chain(*directory);
  if (!chain) {
    return complain_backup(chain.error(), false);
  }
  note_interrupts();
  JsonArray results;
  bool all_fine = true;
  bool restorable = true;
  for (const BackupPoint& point : chain->points) {
    const auto verified = verify_point(*directory, *chain, point);
    if (interrupted()) {
      return complain(Exit::kRefused, "Interrupted");
    }
    restorable = (restorable || point.full) && verified;
    all_fine = all_fine && verified;
    if (options.output != Output::kText) {
      JsonObject result = json_object(
          {{"number", point.number}, {"file", point.file()}, {"restorable", restorable}});
      if (!verified) {
        result.add("error", verified.error().message());
      }
      results.emplace_back(std::move(result));
      continue;
    }
    fmt::print("{}: {}\n", point.file(),
               !verified     ? clean(verified.error().message())
               : !restorable ? "sound, but can not be restored without one before it"
                             : "sound");
    std::fflush(stdout);
  }
  if (options.output != Output::kText) {
    print_value(results, "", options);
  } else if (chain->points.empty()) {
    fmt::print("There are no backups yet.\n");
  }
  return all_fine ? Exit::kOk
                  : complain(Exit::kRefused, fmt::format("'{}' is damaged", clean(*directory)));
}

struct Verb {
  std::string_view name;
  size_t words;
  std::string_view usage;
  bool asks_daemon;
};
constexpr std::array kVerbs{
    Verb{"create", 2, "create NODE DIRECTORY [--full] [--compress]", true},
    Verb{"list", 1, "list DIRECTORY", false},
    Verb{"verify", 1, "verify DIRECTORY", false},
    Verb{"prune", 1, "prune DIRECTORY --keep N", false},
    Verb{"restore", 2, "restore DIRECTORY FILE [--point N] [--format qcow2|raw]", true},
};

// An option that this verb does not have.
std::optional<std::string_view> stray_option(const Options& options, std::string_view verb) {
  const bool creates = verb == "create";
  const bool restores = verb == "restore";
  return options.full && !creates               ? std::optional("--full")
         : options.compress && !creates         ? std::optional("--compress")
         : options.point && !restores           ? std::optional("--point")
         : options.keep && verb != "prune"      ? std::optional("--keep")
         : !options.format.empty() && !restores ? std::optional("--format")
                                                : std::nullopt;
}

}  // namespace

Exit complain_backup(const Error& error, bool lost) {
  return complain(lost ? Exit::kNoConnection : Exit::kRefused, clean(error.message()));
}

Result<BackupChain> need_chain(const std::string& directory) {
  auto chain = load_backup_chain(directory);
  if (!chain) {
    return pass(chain);
  }
  if (!*chain) {
    return fail(ENOENT, "There are no backups in '{}'", directory);
  }
  return std::move(**chain);
}

Result<void> verify_point(const std::string& directory, const BackupChain& chain,
                          const BackupPoint& point) {
  const std::string path = directory + "/" + point.file();
  const auto digest = digest_file(path);
  if (!digest) {
    return std::unexpected(digest.error());
  }
  if (digest->length != point.length) {
    return fail(EIO, "'{}' is damaged: it has {} bytes in place of {}", path, digest->length,
                point.length);
  }
  if (digest->sha256 != point.sha256) {
    return fail(EIO, "'{}' is damaged: its SHA-256 is {} in place of {}", path, digest->sha256,
                point.sha256);
  }
  const auto files = chain.needed_for(point.number);
  const std::string expected = files.size() < 2 ? "" : files[files.size() - 2].file();
  const auto backing = backing_name_in(path);
  if (!backing) {
    return std::unexpected(backing.error());
  }
  if (*backing != expected) {
    return fail(EIO, "'{}' names '{}' as its backing file, in place of '{}'", path, *backing,
                expected);
  }
  return {};
}

JsonObject chain_node(const std::string& directory, std::span<const BackupPoint> points) {
  schema::JsonValue below;
  for (const BackupPoint& point : points) {
    below = json_object({{"driver", "qcow2"},
                         {"read-only", true},
                         {"file", json_object({{"driver", "file"},
                                               {"read-only", true},
                                               {"filename", directory + "/" + point.file()}})},
                         {"backing", std::move(below)}});
  }
  return std::move(*below.as_object());
}

Exit run_backup(const Options& options) {
  const auto* verb = std::ranges::find(kVerbs, options.words.front(), &Verb::name);
  if (verb == kVerbs.end()) {
    return complain(Exit::kUsage, fmt::format("'{}' can not be done with backups: there are "
                                              "create, list, verify, prune and restore",
                                              clean(options.words.front())));
  }
  if (options.words.size() != verb->words + 1) {
    return complain(Exit::kUsage, fmt::format("Usage: cairnctl backup {}", verb->usage));
  }
  if (const auto stray = stray_option(options, verb->name)) {
    return complain(Exit::kUsage, fmt::format("{} is not for 'backup {}'", *stray, verb->name));
  }
  if (verb->asks_daemon && options.socket.empty()) {
    return complain(Exit::kUsage, "No daemon is named: give -s ADDRESS, or set CAIRN_SOCKET");
  }
  const std::string& first = options.words[1];
  if (verb->name == "create") {
    return run_backup_create(options, first, options.words[2]);
  }
  if (verb->name == "restore") {
    return run_backup_restore(options, first, options.words[2]);
  }
  if (verb->name == "prune") {
    return run_backup_prune(options, first);
  }
  return verb->name == "list" ? list_backups(options, first) : verify_backups(options, first);
}

}  // namespace cairn::ctl
