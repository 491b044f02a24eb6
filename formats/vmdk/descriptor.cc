#include "formats/vmdk/descriptor.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace cairn::vmdk {

namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";
constexpr std::size_t kLongestCreateType = 127;
constexpr std::size_t kLongestName = 511;

struct TypeName {
  ExtentLine::Type type;
  std::string_view name;
};
constexpr std::array<TypeName, 5> kTypes = {{{ExtentLine::Type::kFlat, "FLAT"},
                                             {ExtentLine::Type::kVmfs, "VMFS"},
                                             {ExtentLine::Type::kSparse, "SPARSE"},
                                             {ExtentLine::Type::kVmfsSparse, "VMFSSPARSE"},
                                             {ExtentLine::Type::kSeSparse, "SESPARSE"}}};

std::optional<ExtentLine::Type> type_by_name(std::string_view name) {
  for (const TypeName& type : kTypes) {
    if (type.name == name) {
      return type.type;
    }
  }
  return std::nullopt;
}

std::string_view skip_blanks(std::string_view text) {
  const std::size_t at = text.find_first_not_of(kBlanks);
  return at == text.npos ? std::string_view() : text.substr(at);
}

// Takes the next word off the front.
std::string_view take_word(std::string_view& text) {
  text = skip_blanks(text);
  const std::size_t end = std::min(text.find_first_of(kBlanks), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

std::optional<int64_t> take_number(std::string_view& text) {
  text = skip_blanks(text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

// A line as far as it follows the pattern ACCESS SECTORS TYPE "NAME" OFFSET.
struct RawLine {
  std::string_view access;
  int64_t sectors = 0;
  std::string_view type;
  std::string_view filename;
  std::optional<int64_t> offset;
  bool complete = false;  // up to the name
};

RawLine split_line(std::string_view line) {
  RawLine raw;
  raw.access = take_word(line);
  const std::optional<int64_t> sectors = take_number(line);
  if (!sectors) {
    return raw;
  }
  raw.sectors = *sectors;
  raw.type = take_word(line);
  line = skip_blanks(line);
  if (raw.type.empty() || !line.starts_with('"')) {
    return raw;
  }
  line.remove_prefix(1);
  const std::size_t end = std::min(line.find_first_of("\"\r"), line.size());
  raw.filename = line.substr(0, end);
  if (raw.filename.empty() || raw.filename.size() > kLongestName) {
    return raw;
  }
  raw.complete = true;
  line.remove_prefix(end);
  if (line.starts_with('"')) {
    line.remove_prefix(1);
    raw.offset = take_number(line);
  }
  return raw;
}

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

// The number behind NAME and one more character; how the field reads it.
std::optional<uint32_t> find_id(std::string_view text, std::string_view name, std::size_t* offset,
                                std::size_t* digits) {
  const std::size_t found = text.find(name);
  if (found == text.npos || found + name.size() + 1 > text.size()) {
    return std::nullopt;
  }
  const std::string_view rest = skip_blanks(text.substr(found + name.size() + 1));
  std::size_t length = 0;
  uint32_t value = 0;
  for (; length < rest.size(); ++length) {
    const char c = rest[length];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) {
      break;
    }
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  if (length == 0) {
    return std::nullopt;
  }
  *offset = static_cast<std::size_t>(rest.data() - text.data());
  *digits = length;
  return value;
}

}  // namespace

std::string_view to_string(ExtentLine::Type type) {
  return kTypes[static_cast<std::size_t>(type)].name;
}

std::string_view descriptor_text(std::string_view bytes) {
  return bytes.substr(0, std::min(bytes.find('\0'), bytes.size()));
}

Result<ContentIds> parse_content_ids(std::string_view text) {
  ContentIds ids;
  const auto id = find_id(text, "CID", &ids.id_offset, &ids.id_digits);
  std::size_t offset = 0;
  std::size_t digits = 0;
  const auto parent = find_id(text, "parentCID", &offset, &digits);
  if (!id || !parent) {
    return std::unexpected(Error::from_errno(EINVAL));
  }
  ids.id = *id;
  ids.parent = *parent;
  constexpr std::string_view kHint = "parentFileNameHint=\"";
  const std::size_t hint = text.find(kHint);
  if (hint != text.npos) {
    const std::string_view rest = text.substr(hint + kHint.size());
    const std::size_t end = rest.find('"');
    if (end == rest.npos || rest.substr(0, end).find('\n') != rest.npos) {
      return std::unexpected(Error::from_errno(EINVAL));
    }
    ids.parent_name = rest.substr(0, end);
  }
  return ids;
}

Result<std::string> parse_create_type(std::string_view text) {
  constexpr std::string_view kName = "createType";
  constexpr std::size_t kBetween = 2;  // an equals sign and a quotation mark
  const std::size_t found = text.find(kName);
  const std::size_t begin = found + kName.size() + kBetween;
  if (found == text.npos || begin > text.size()) {
    return fail(EINVAL, "invalid VMDK image descriptor");
  }
  const std::string_view rest = text.substr(begin);
  const std::size_t end = std::min(rest.find('"'), rest.size());
  if (end > kLongestCreateType || end == rest.size()) {
    return fail(EINVAL, "invalid VMDK image descriptor");
  }
  return std::string(rest.substr(0, end));
}

Result<std::vector<ExtentLine>> parse_extents(std::string_view text) {
  constexpr std::size_t kMostExtents = 8192;
  std::vector<ExtentLine> extents;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    const RawLine raw = split_line(line);
    if (!raw.complete || raw.access != "RW") {
      continue;
    }
    const bool flat = raw.type == "FLAT";
    if (flat ? !raw.offset || *raw.offset < 0 : raw.offset.has_value()) {
      return fail(EINVAL, "Invalid extent line: {}", line);
    }
    const auto type = type_by_name(raw.type);
    if (!type || raw.sectors <= 0) {
      continue;
    }
    if (extents.size() == kMostExtents) {
      return fail(EFBIG, "The descriptor has more than {} extents", kMostExtents);
    }
    extents.push_back({.type = *type,
                       .sectors = static_cast<uint64_t>(raw.sectors),
                       .offset = flat ? static_cast<uint64_t>(*raw.offset) : 0,
                       .filename = std::string(raw.filename)});
  }
  return extents;
}

int probe_descriptor(std::string_view text) {
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (line.starts_with('#') || line.find_first_not_of(' ') == line.npos) {
      continue;
    }
    return line == "version=1" || line == "version=2" || line == "version=3" ? 100 : 0;
  }
  return 0;
}

std::string make_descriptor(const DescriptorFields& fields) {
  std::string text =
      fmt::format("# Disk DescriptorFile\nversion=1\nCID={:x}\nparentCID={:x}\ncreateType=\"{}\"\n",
                  fields.id, fields.parent, fields.create_type);
  if (!fields.parent_name.empty()) {
    text += fmt::format("parentFileNameHint=\"{}\"", fields.parent_name);
  }
  text += fmt::format("\n# Extent description\n{}\n# The Disk Data Base\n#DDB\n\n", fields.extents);
  text += fmt::format(
      "ddb.virtualHWVersion = \"{}\"\nddb.geometry.cylinders = \"{}\"\n"
      "ddb.geometry.heads = \"{}\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"{}\"\n"
      "ddb.toolsVersion = \"{}\"\n",
      fields.hardware_version, fields.cylinders, fields.heads, fields.adapter_type,
      fields.tools_version);
  return text;
}

}  // namespace cairn::vmdk
