#include "tools/ctl/backup_chain.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include "crypto/hash.h"
#include "schema/json_stream.h"
#include "tools/ctl/backup_files.h"
#include "tools/ctl/json.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

constexpr int64_t kChainVersion = 1;
constexpr schema::JsonLimits kChainLimits{
    .depth = 8, .bytes = size_t{64} << 20, .tokens = size_t{1} << 22};
constexpr std::string_view kChainFile = "chain.json";

Result<std::string> random_digits(size_t bytes) {
  std::vector<std::byte> random(bytes);
  auto made = crypto::random_bytes(random);
  if (!made) {
    return pass(made);
  }
  std::string digits;
  for (const std::byte byte : random) {
    digits += fmt::format("{:02x}", static_cast<unsigned>(byte));
  }
  return digits;
}

bool are_hex_digits(std::string_view text, size_t length) {
  return text.size() == length && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// A whole number that is not negative.
Result<uint64_t> unsigned_in(const JsonObject& object, std::string_view name) {
  const int64_t value = number_in(object, name, -1);
  if (value < 0) {
    return fail(EINVAL, "'{}' is missing, or no number of bytes or points", name);
  }
  return static_cast<uint64_t>(value);
}

Result<BackupPoint> parse_point(const JsonObject& object, const BackupChain& chain) {
  BackupPoint point;
  for (const auto& [name, place] :
       {std::pair("number", &point.number), std::pair("virtual-size", &point.virtual_size),
        std::pair("length", &point.length)}) {
    const auto value = unsigned_in(object, name);
    if (!value) {
      return std::unexpected(value.error());
    }
    *place = *value;
  }
  const std::string kind = text_in(object, "kind");
  point.full = kind == "full";
  point.time = text_in(object, "time");
  point.sha256 = text_in(object, "sha256");
  point.bitmap = text_in(object, "bitmap");
  if (point.number == 0 || (chain.last() && point.number <= chain.last()->number)) {
    return fail(EINVAL, "point {} is out of order", point.number);
  }
  if (!point.full && (kind != "incremental" || !chain.last())) {
    return fail(EINVAL, "point {} is neither full nor incremental to another", point.number);
  }
  if (text_in(object, "file") != point.file()) {
    return fail(EINVAL, "point {} is not in the file '{}'", point.number, point.file());
  }
  if (!are_hex_digits(point.sha256, 64)) {
    return fail(EINVAL, "point {} has no SHA-256", point.number);
  }
  if (!point.bitmap.starts_with(chain.bitmap_prefix())) {
    return fail(EINVAL, "point {} has a bitmap of another chain", point.number);
  }
  return point;
}

}  // namespace

std::string backup_file(uint64_t number) { return fmt::format("{:04}.qcow2", number); }

std::string BackupPoint::file() const { return backup_file(number); }

Result<BackupChain> BackupChain::make(std::string node) {
  auto id = random_digits(8);
  if (!id) {
    return pass(id, "Could not make a name for the backups: ");
  }
  return BackupChain{.id = std::move(*id), .node = std::move(node), .points = {}};
}

const BackupPoint* BackupChain::find(uint64_t number) const {
  const auto at = std::ranges::find(points, number, &BackupPoint::number);
  return at == points.end() ? nullptr : &*at;
}

std::span<const BackupPoint> BackupChain::needed_for(uint64_t number) const {
  const auto at = std::ranges::find(points, number, &BackupPoint::number);
  if (at == points.end()) {
    return {};
  }
  auto first = at;
  while (first != points.begin() && !first->full) {
    --first;
  }
  return {first, at + 1};
}

std::string BackupChain::bitmap_prefix() const { return fmt::format("cairn-backup-{}-", id); }

Result<std::string> BackupChain::new_bitmap(uint64_t number) const {
  auto unique = random_digits(4);
  if (!unique) {
    return pass(unique, "Could not make a name for a bitmap: ");
  }
  return fmt::format("{}{:04}-{}", bitmap_prefix(), number, *unique);
}

JsonValue point_json(const BackupPoint& point) {
  JsonObject object;
  object.add("number", point.number);
  object.add("file", point.file());
  object.add("kind", point.full ? "full" : "incremental");
  object.add("time", point.time);
  object.add("virtual-size", point.virtual_size);
  object.add("length", point.length);
  object.add("sha256", point.sha256);
  object.add("bitmap", point.bitmap);
  return object;
}

JsonValue BackupChain::to_json() const {
  JsonArray list;
  for (const BackupPoint& point : points) {
    list.push_back(point_json(point));
  }
  JsonObject object;
  object.add("version", kChainVersion);
  object.add("id", id);
  object.add("node", node);
  object.add("points", std::move(list));
  return object;
}

Result<BackupChain> parse_backup_chain(std::string_view text) {
  auto parsed = schema::parse_json(text, kChainLimits);
  if (!parsed) {
    return pass(parsed);
  }
  const JsonObject* object = parsed->as_object();
  if (!object) {
    return fail(EINVAL, "it is no list of backups");
  }
  const int64_t version = number_in(*object, "version", 0);
  if (version != kChainVersion) {
    return fail(version > 0 ? ENOTSUP : EINVAL, "it is no list of backups of version {}",
                kChainVersion);
  }
  BackupChain chain{.id = text_in(*object, "id"), .node = text_in(*object, "node"), .points = {}};
  const JsonValue* list = object->find("points");
  if (!are_hex_digits(chain.id, 16) || chain.node.empty() || !list || !list->is_array()) {
    return fail(EINVAL, "it is no list of backups");
  }
  const auto entries = objects_in(list);
  if (entries.size() != list->as_array()->size()) {
    return fail(EINVAL, "a point is no object");
  }
  for (const JsonObject* entry : entries) {
    auto point = parse_point(*entry, chain);
    if (!point) {
      return pass(point);
    }
    chain.points.push_back(std::move(*point));
  }
  return chain;
}

Result<std::optional<BackupChain>> load_backup_chain(const std::string& directory) {
  const std::string path = directory + "/" + std::string(kChainFile);
  auto text = read_small_file(path);
  if (!text) {
    if (text.error().code() == ENOENT) {
      return std::optional<BackupChain>();
    }
    return pass(text);
  }
  auto chain = parse_backup_chain(*text);
  if (!chain) {
    return pass(chain, fmt::format("'{}' can not be used: ", path));
  }
  return std::optional(std::move(*chain));
}

Result<void> save_backup_chain(const std::string& directory, const BackupChain& chain) {
  return replace_file(directory, std::string(kChainFile),
                      schema::to_text(chain.to_json(), schema::JsonLayout::kPretty) + "\n");
}

}  // namespace cairn::ctl
