// Opening a LUKS header of any version.
#include <array>
#include <cerrno>
#include <utility>

#include "formats/encryption/luks1_volume.h"
#include "formats/encryption/luks2_volume.h"

namespace cairn::encryption {
namespace {

using Opened = Result<std::unique_ptr<LuksVolume>>;

io::Task<Opened> open_luks1(HeaderArea area, LuksOpening opening,
                            std::array<std::byte, Luks1Header::kBytes> bytes) {
  Result<Luks1Header> header = parse_luks1_header(bytes, opening.detached);
  if (!header) {
    co_return pass(header);
  }
  co_return std::make_unique<Luks1Volume>(area, std::move(opening), std::move(*header));
}

io::Task<Opened> open_luks2(HeaderArea area, LuksOpening opening) {
  Result<Luks2Header> header = co_await read_luks2_header(area);
  if (!header) {
    co_return pass(header);
  }
  Result<Luks2Metadata> metadata =
      parse_luks2_metadata(header->json, header->size(), opening.detached);
  if (!metadata) {
    co_return pass(metadata);
  }
  co_return std::make_unique<Luks2Volume>(area, std::move(opening), std::move(*header),
                                          std::move(*metadata));
}

}  // namespace

io::Task<Opened> open_luks(HeaderArea area, LuksOpening opening) {
  std::string password;
  const bool without_key = opening.without_key;
  if (!without_key) {
    Result<std::string> found = find_password(*opening.graph, opening.secret, opening.prefix);
    if (!found) {
      co_return pass(found);
    }
    password = std::move(*found);
  }
  std::array<std::byte, Luks1Header::kBytes> bytes{};
  Result<void> read = co_await area.read(0, bytes);
  if (!read) {
    co_return pass(read, "Unable to read LUKS header: ");
  }
  const unsigned version = luks_version(bytes);
  Opened volume;
  if (version == 1) {
    volume = co_await open_luks1(area, std::move(opening), bytes);
  } else if (version == 2 && luks2_header_follows(bytes)) {
    volume = co_await open_luks2(area, std::move(opening));
  } else if (version != 0) {
    co_return fail(ENOTSUP, "LUKS version {} is not supported", version);
  } else {
    co_return fail(EINVAL, "Volume is not in LUKS format");
  }
  if (volume && !without_key) {
    Result<void> unlocked = co_await (*volume)->unlock(std::move(password));
    if (!unlocked) {
      co_return pass(unlocked);
    }
  }
  co_return volume;
}

}  // namespace cairn::encryption
