// Image: what all parts of an open qcow2 image share: the files it lies in, its header, and what is
// to be done when it turns out to be damaged.
//
// Invariant: the header changes on disk one sector at a time (all fields that change while an image
// is open lie in the first 512 bytes), so a power cut leaves the old header or the new one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/overlap_guard.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::block {
class Edge;
class Node;
}  // namespace cairn::block

namespace cairn::qcow2 {

// As C's "%#x": zero is "0".
[[nodiscard]] std::string c_hex(uint64_t value);

class Image {
 public:
  static constexpr uint32_t kHeaderSector = 512;

  // `file` must outlive the image, and so must `data`, which an external data file is opened as;
  // null: there is none, or nothing will be asked about data. `node` is the node of the image
  // itself, for messages.
  Image(block::Edge& file, block::Node& node, Header header, bool writable,
        const OverlapChecks& checks = {}, block::Edge* data = nullptr);

  // With the metadata.
  [[nodiscard]] block::Edge& file() const { return file_; }
  // With the guest's data: the same, or the external data file.
  [[nodiscard]] block::Edge& data() const { return data_; }
  // Makes an external data file durable; elsewhere a flush of the file does it all.
  [[nodiscard]] io::Task<Result<void>> flush_data();
  // The external data file is to be a raw image of the disk at any time.
  [[nodiscard]] bool data_is_raw() const {
    return geometry_.external_data && (header_.autoclear_features & kAutoclearDataFileRaw) != 0;
  }
  [[nodiscard]] block::Node& node() const { return node_; }
  [[nodiscard]] const Header& header() const { return header_; }
  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] uint64_t cluster_size() const { return cluster_size_; }
  [[nodiscard]] bool open_for_writing() const { return writable_; }
  // Writes may go straight to where the mapping says: the image is open for writing, nothing
  // forbids it, and prepare_write() has been done.
  [[nodiscard]] bool writable() const { return prepared_ && !broken_; }
  // Something has made writing impossible since the image was opened.
  [[nodiscard]] bool broken() const { return broken_; }
  // A repair has changed the image behind the back of what reads it: no writes until it is opened
  // again.
  void retire() { broken_ = true; }
  // An update of the header failed, and so did putting the old one back: a reader may find either.
  // Both describe a sound image as long as no metadata is written any more.
  [[nodiscard]] bool header_unknown() const { return header_unknown_; }
  // Before the header is changed, under its mutex: EIO when it is unknown, since a change on top of
  // a half written one could make a header that nobody meant.
  [[nodiscard]] Result<void> header_known() const;
  [[nodiscard]] OverlapGuard& guard() { return guard_; }
  [[nodiscard]] const OverlapGuard& guard() const { return guard_; }
  // Whether guest data at a place would lie on metadata.
  [[nodiscard]] bool metadata_at(uint64_t host_offset, uint64_t length) const {
    return !geometry_.external_data && guard_.protects(host_offset, length);
  }

  // Changes header fields, here and on disk, and makes that durable. When it fails, the old header
  // is put back; when even that fails the image takes no more writes, because it is not known
  // which of the two a reader would find.
  [[nodiscard]] io::Task<Result<void>> update_header(std::function<void(Header&)> change);

  // The same for everything in the header, its extensions and the backing file's name included,
  // which take more than one sector (header_rewrite.cc). ENOSPC when the new header does not fit
  // into its cluster.
  [[nodiscard]] io::Task<Result<void>> replace_header(std::function<void(Header&)> change);

  // Until it is closed, a read-only image shows a disk of this many bytes.
  void show_size(uint64_t size) { header_.size = size; }

  // The image contradicts itself. Tells the user, once; a writable image is marked corrupt and
  // takes no more writes. Returns the EIO to fail the request with.
  [[nodiscard]] io::Task<Error> corrupt(std::string message);
  // The same where a request could be refused without doubt about the rest: nothing is marked.
  [[nodiscard]] Error damaged(std::string message);

  // A write of `length` bytes of data, or of metadata of a kind, is about to hit metadata at
  // `host_offset`: as corrupt().
  [[nodiscard]] io::Task<Error> overlap(uint64_t host_offset, uint64_t length,
                                        MetadataKind writing = MetadataKind::kNone);
  // Fails as overlap() when metadata of a kind must not be written because something else lies
  // there, too.
  [[nodiscard]] io::Task<Result<void>> may_write(MetadataKind kind, uint64_t host_offset,
                                                 uint64_t length);
  // Says what lies at an offset that the guard protects: "active L2 table".
  using Describer = std::function<std::string(uint64_t host_offset, MetadataKind writing)>;
  void set_describer(Describer describe) { describe_ = std::move(describe); }

  // Before anything is written: fails when an earlier error forbids it, clears autoclear feature
  // bits that this implementation does not keep true (section "Header", autoclear_features), and
  // calls who wants to be called.
  [[nodiscard]] io::Task<Result<void>> prepare_write();
  // Called before the first write since the image was opened, or since expect_no_writes(). A
  // failure fails the write.
  void set_before_first_write(std::function<io::Task<Result<void>>()> call) {
    before_first_write_ = std::move(call);
  }
  void expect_no_writes() { prepared_ = false; }
  // These autoclear bits are kept true.
  void keep_autoclear(uint64_t bits) { kept_autoclear_ |= bits; }

  // Makes the header name this bitmap directory, or none, and makes that durable
  // (bitmap_extension.cc). When it fails the header is as it was, or the image takes no more
  // writes. ENOSPC when the header has no room.
  [[nodiscard]] io::Task<Result<void>> set_bitmaps_extension(
      std::optional<BitmapsExtension> wanted);

 private:
  // Where in the file an access was refused.
  struct Access {
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  [[nodiscard]] io::Task<Result<void>> write_sector(const Header& header);
  // bitmap_extension.cc: `cluster` is the first one; changes go to the disk step by step.
  [[nodiscard]] io::Task<Result<void>> write_area(const std::vector<std::byte>& cluster,
                                                  uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> trust_bitmaps(std::vector<std::byte>& cluster, bool trusted);
  [[nodiscard]] io::Task<Result<void>> move_backing_name(std::vector<std::byte>& cluster,
                                                         uint64_t to);
  [[nodiscard]] io::Task<Result<void>> insert_bitmaps(std::vector<std::byte>& cluster, uint64_t at,
                                                      uint64_t limit, std::vector<std::byte> data);
  [[nodiscard]] io::Task<Result<void>> change_bitmaps_on_disk(
      std::vector<std::byte>& cluster, std::optional<BitmapsExtension> wanted);
  [[nodiscard]] io::Task<Result<void>> rewrite_small_header(const Header& changed);
  [[nodiscard]] io::Task<void> restore_header(const Header& old,
                                              const std::vector<std::byte>& before);
  [[nodiscard]] io::Task<Result<void>> switch_header(std::vector<std::vector<std::byte>> steps);
  [[nodiscard]] io::Task<Result<void>> write_header_step(const std::vector<std::byte>& from,
                                                         const std::vector<std::byte>& to);
  [[nodiscard]] io::Task<Result<void>> write_header_bytes(const std::vector<std::byte>& bytes,
                                                          uint64_t begin, uint64_t end);
  [[nodiscard]] io::Task<Error> mark_corrupt(std::string message, std::optional<Access> access);
  void announce(const std::string& message, std::optional<Access> access, bool fatal) const;

  block::Edge& file_;
  block::Edge& data_;
  block::Node& node_;
  Header header_;
  Geometry geometry_;
  uint64_t cluster_size_;
  bool writable_;
  bool prepared_ = false;
  bool broken_ = false;
  bool header_unknown_ = false;
  bool reported_ = false;
  uint64_t kept_autoclear_ = 0;
  std::function<io::Task<Result<void>>()> before_first_write_;
  Describer describe_;
  OverlapGuard guard_;
  io::AsyncMutex header_mutex_;
};

// Reads and parses the header of an image file. Errors as parse_header().
[[nodiscard]] io::Task<Result<Header>> read_header(block::Edge& file,
                                                   OpenedFor purpose = OpenedFor::kUse);

}  // namespace cairn::qcow2
