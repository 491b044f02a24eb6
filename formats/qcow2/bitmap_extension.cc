// Image: changing the bitmaps extension of the header while the image is open.
//
// The extension need not lie in the header's first sector, so that it does not change together with
// the fields there. Its 24 bytes name one directory; a reader looks at them only while the
// autoclear bit for bitmaps is set. Every step below is one sector, or is not looked at:
//   to another directory   its bytes in place (with the bit off for the time when they lie in two
//                          sectors), then the bit
//   a new extension        what stands behind the end marker first, then the marker becomes the
//                          extension's head, then the bit
//   no extension           the bit first, then the head becomes an end marker again
// The name of the backing file moves out of a new extension's way in the same manner.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

namespace {

constexpr uint64_t kExtensionHead = 8;
// A type that nobody knows: space that is not used.
constexpr uint32_t kUnusedExtension = 0x756e7573;

// Where things lie in the first cluster as it is on disk.
struct HeaderArea {
  uint64_t end = 0;      // of the extensions: of the end marker, or the limit
  uint64_t limit = 0;    // the backing file's name, or the cluster's end
  uint64_t bitmaps = 0;  // the head of the extension; 0: none
  bool last = false;     // nothing follows it
};

HeaderArea find_area(const Header& header, std::span<const std::byte> cluster) {
  const uint64_t name = load_be<uint64_t>(cluster.data() + 8);
  HeaderArea area{.limit = name != 0 ? name : cluster.size()};
  uint64_t at = header.version >= 3 ? load_be<uint32_t>(cluster.data() + 100) : kHeaderLengthV2;
  while (at + kExtensionHead <= area.limit) {
    const auto type = load_be<uint32_t>(cluster.data() + at);
    const uint64_t length = load_be<uint32_t>(cluster.data() + at + 4);
    if (type == static_cast<uint32_t>(ExtensionType::kEnd) ||
        length > area.limit - at - kExtensionHead) {
      break;
    }
    area.last = type == static_cast<uint32_t>(ExtensionType::kBitmaps);
    area.bitmaps = area.last ? at : area.bitmaps;
    at += kExtensionHead + align_up(length, 8);
  }
  area.end = std::min(at, area.limit);
  return area;
}

bool one_sector(uint64_t offset, uint64_t length) {
  return offset / Image::kHeaderSector == (offset + length - 1) / Image::kHeaderSector;
}

}  // namespace

// Writes the sectors of the first cluster that hold a range, and makes that durable.
io::Task<Result<void>> Image::write_area(const std::vector<std::byte>& cluster, uint64_t offset,
                                         uint64_t length) {
  const uint64_t begin = align_down(offset, kHeaderSector);
  const uint64_t end = align_up(offset + length, kHeaderSector);
  Result<void> written = co_await file_.write(begin, cluster.data() + begin, end - begin);
  if (written) {
    written = co_await file_.flush();
  }
  co_return written;
}

// Sets or clears the autoclear bit.
io::Task<Result<void>> Image::trust_bitmaps(std::vector<std::byte>& cluster, bool trusted) {
  const uint64_t features = load_be<uint64_t>(cluster.data() + header_offset::kAutoclear);
  const uint64_t wanted = trusted ? features | kAutoclearBitmaps : features & ~kAutoclearBitmaps;
  if (wanted == features) {
    co_return Result<void>{};
  }
  store_be(cluster.data() + header_offset::kAutoclear, wanted);
  Result<void> written = co_await write_area(cluster, header_offset::kAutoclear, sizeof wanted);
  if (written) {
    header_.autoclear_features = wanted;
  }
  co_return written;
}

// The name goes to the end of the cluster's used part, where it is durable before it is named.
io::Task<Result<void>> Image::move_backing_name(std::vector<std::byte>& cluster, uint64_t to) {
  const uint64_t from = load_be<uint64_t>(cluster.data() + 8);
  const uint64_t length = load_be<uint32_t>(cluster.data() + 16);
  to = std::max(to, align_up(from + length, 8));
  if (to + length > cluster.size()) {
    co_return fail(ENOSPC, "The header of the image has no room for bitmaps");
  }
  std::copy_n(cluster.begin() + static_cast<std::ptrdiff_t>(from), length,
              cluster.begin() + static_cast<std::ptrdiff_t>(to));
  Result<void> written = co_await write_area(cluster, to, std::max<uint64_t>(length, 1));
  if (written) {
    store_be(cluster.data() + 8, to);
    written = co_await write_area(cluster, 8, sizeof to);
  }
  if (written) {
    header_.backing_file_offset = to;
  }
  co_return written;
}

io::Task<Result<void>> Image::insert_bitmaps(std::vector<std::byte>& cluster, uint64_t at,
                                             uint64_t limit, std::vector<std::byte> data) {
  const uint64_t behind = at + kExtensionHead + kBitmapsExtensionLength;
  const uint64_t end = behind + kExtensionHead;
  if (!one_sector(at, kExtensionHead) || end > cluster.size()) {
    co_return fail(ENOSPC, "The header of the image has no room for bitmaps");
  }
  if (end > limit) {
    Result<void> moved = co_await move_backing_name(cluster, end);
    if (!moved) {
      co_return moved;
    }
  }
  const auto body = cluster.begin() + static_cast<std::ptrdiff_t>(at + kExtensionHead);
  std::ranges::fill_n(std::ranges::copy(data, body).out, kExtensionHead, std::byte{0});
  // Until its head is there nobody reads it. An extension area that had no end marker has one then.
  store_be(cluster.data() + at, uint64_t{0});
  Result<void> written = co_await write_area(cluster, at, end - at);
  if (written) {
    store_be(cluster.data() + at, static_cast<uint32_t>(ExtensionType::kBitmaps));
    store_be(cluster.data() + at + 4, static_cast<uint32_t>(kBitmapsExtensionLength));
    written = co_await write_area(cluster, at, kExtensionHead);
  }
  co_return written;
}

io::Task<Result<void>> Image::change_bitmaps_on_disk(std::vector<std::byte>& cluster,
                                                     std::optional<BitmapsExtension> wanted) {
  Result<void> result;
  const HeaderArea area = find_area(header_, cluster);
  if (!wanted) {
    result = co_await trust_bitmaps(cluster, false);
    if (result && area.bitmaps != 0) {
      // Something that follows stays where it is: what was the extension becomes space of no use.
      store_be(cluster.data() + area.bitmaps,
               area.last ? static_cast<uint32_t>(ExtensionType::kEnd) : kUnusedExtension);
      result = co_await write_area(cluster, area.bitmaps, sizeof(uint32_t));
    }
    co_return result;
  }
  std::vector<std::byte> data = serialize_bitmaps_extension(*wanted);
  if (area.bitmaps == 0) {
    result = co_await insert_bitmaps(cluster, area.end, area.limit, std::move(data));
  } else {
    const uint64_t at = area.bitmaps + kExtensionHead;
    if (!one_sector(at, data.size())) {
      result = co_await trust_bitmaps(cluster, false);
    }
    std::ranges::copy(data, cluster.begin() + static_cast<std::ptrdiff_t>(at));
    if (result) {
      result = co_await write_area(cluster, at, data.size());
    }
  }
  if (result) {
    result = co_await trust_bitmaps(cluster, true);
  }
  co_return result;
}

// In a header that is one sector nothing can be half done, and what only explains features has to
// make room when there is none.
io::Task<Result<void>> Image::rewrite_small_header(const Header& changed) {
  Header header = changed;
  Result<std::vector<std::byte>> bytes = serialize_header(header);
  if (!bytes) {
    std::erase_if(header.extensions, [](const HeaderExtension& extension) {
      return extension.type == static_cast<uint32_t>(ExtensionType::kFeatureNames);
    });
    bytes = serialize_header(header);
  }
  if (!bytes) {
    co_return fail(ENOSPC, "The header of the image has no room for bitmaps");
  }
  bytes->resize(kHeaderSector);
  Result<void> written = co_await write_area(*bytes, 0, kHeaderSector);
  if (written) {
    header_ = std::move(header);
  }
  co_return written;
}

io::Task<Result<void>> Image::set_bitmaps_extension(std::optional<BitmapsExtension> wanted) {
  const auto lock = co_await header_mutex_.lock();
  if (auto known = header_known(); !known) {
    co_return known;
  }
  Header changed = header_;
  const auto type = static_cast<uint32_t>(ExtensionType::kBitmaps);
  const auto found = std::ranges::find(changed.extensions, type, &HeaderExtension::type);
  if (!wanted) {
    std::erase_if(changed.extensions, [type](const auto& e) { return e.type == type; });
  } else if (found != changed.extensions.end()) {
    found->data = serialize_bitmaps_extension(*wanted);
  } else {
    changed.extensions.push_back({type, serialize_bitmaps_extension(*wanted)});
  }
  changed.autoclear_features = wanted ? changed.autoclear_features | kAutoclearBitmaps
                                      : changed.autoclear_features & ~kAutoclearBitmaps;
  std::vector<std::byte> before(cluster_size_);
  Result<void> result = co_await read_metadata(file_, 0, before);
  if (!result) {
    co_return result;
  }
  const Header old = header_;
  if (cluster_size_ == kHeaderSector) {
    result = co_await rewrite_small_header(changed);
  } else {
    std::vector<std::byte> cluster = before;
    result = co_await change_bitmaps_on_disk(cluster, wanted);
    if (result) {
      header_.extensions = std::move(changed.extensions);
    }
  }
  if (!result) {
    co_await restore_header(old, before);
  }
  co_return result;
}

// Puts the first cluster back as it was; its first sector first, which decides what is looked at.
// When that fails, or a name has moved, it is not known what a reader would find.
io::Task<void> Image::restore_header(const Header& old, const std::vector<std::byte>& before) {
  const bool moved = header_.backing_file_offset != old.backing_file_offset;
  Result<void> restored;
  if (!moved) {
    restored = co_await write_area(before, 0, kHeaderSector);
    if (restored) {
      restored = co_await write_area(before, 0, before.size());
    }
  }
  if (moved || !restored) {
    broken_ = true;
    header_unknown_ = true;
  } else {
    header_ = old;
  }
}

}  // namespace cairn::qcow2
