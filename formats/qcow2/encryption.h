// Encryption: how an open image is encrypted (specification, section "Data encryption").
//
// Guest clusters are encrypted, metadata is not, and neither is anything compressed. With LUKS the
// header lies in clusters of its own, which a header extension points to, and sectors are numbered
// by their place in the file; with the old AES they are numbered by their place on the disk, and
// there is no header.
#pragma once

#include <memory>
#include <utility>

#include "base/result.h"
#include "block/sector_codec.h"
#include "formats/encryption/luks_volume.h"
#include "formats/qcow2/header.h"
#include "io/task.h"

namespace cairn::block {
class CreateOptions;
class Edge;
class OpenContext;
}  // namespace cairn::block

namespace cairn::schema {
struct BlockdevOptionsQcow2;
struct ImageInfoSpecificQCow2Encryption;
}  // namespace cairn::schema

namespace cairn::qcow2 {

class Encryption {
 public:
  // Null when the image is not encrypted. EINVAL when the options speak of another encryption than
  // the image's, or of none; EPERM for a wrong password. `context` and `options` outlive the task,
  // `file` the result.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Encryption>>> open(
      block::OpenContext& context, const schema::BlockdevOptionsQcow2& options,
      const Header& header, block::Edge& file);

  // Null when the image was opened for its metadata alone.
  [[nodiscard]] const block::SectorCodec* codec() const {
    return luks_ != nullptr ? luks_->codec() : aes_.get();
  }
  [[nodiscard]] schema::ImageInfoSpecificQCow2Encryption info() const;
  // Changes key slots, by the options whose names begin with "encrypt.".
  [[nodiscard]] io::Task<Result<void>> amend(const block::CreateOptions& options);

 private:
  std::unique_ptr<encryption::LuksVolume> luks_;  // null: the old AES
  std::unique_ptr<block::SectorCodec> aes_;
};

}  // namespace cairn::qcow2
