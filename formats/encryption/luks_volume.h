// LuksVolume: an open LUKS header. Knows where the encrypted disk lies, has the codec for it when
// it was opened with its password, and changes the key slots by rules that are the same for all
// versions (luks_amend.cc). How slots are stored is the matter of Luks1Volume and Luks2Volume.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/sector_codec.h"
#include "crypto/secret_bytes.h"
#include "formats/encryption/header_area.h"
#include "formats/encryption/options.h"
#include "formats/encryption/volume_codec.h"
#include "io/task.h"

namespace cairn::schema {
struct QCryptoBlockInfoLUKS;
}

namespace cairn::encryption {

// How a volume is opened.
struct LuksOpening {
  const block::Graph* graph = nullptr;  // that knows secrets; outlives the volume
  std::optional<std::string> secret;
  std::string_view prefix;   // of the option that names the secret, for messages
  bool without_key = false;  // only the header is wanted
  bool detached = false;     // the header has a file of its own
  Numbering numbering = Numbering::kGuestOffset;
};

class LuksVolume {
 public:
  LuksVolume(HeaderArea area, LuksOpening opening) : area_(area), opening_(std::move(opening)) {}
  LuksVolume(const LuksVolume&) = delete;
  LuksVolume& operator=(const LuksVolume&) = delete;
  virtual ~LuksVolume() = default;

  // Null when it was opened without the key.
  [[nodiscard]] const block::SectorCodec* codec() const { return codec_.get(); }
  // Where the disk begins, in bytes from the header's beginning or, when that is detached, of the
  // file with the disk.
  [[nodiscard]] virtual uint64_t payload_offset() const = 0;
  // Bytes of the disk when the header says so; nothing: up to the end of the file.
  [[nodiscard]] virtual std::optional<uint64_t> payload_length() const { return std::nullopt; }
  [[nodiscard]] virtual uint32_t sector_size() const = 0;
  [[nodiscard]] virtual schema::QCryptoBlockInfoLUKS info() const = 0;

  // Takes the key out with the password and makes the codec. To be called once. EPERM when no slot
  // opens.
  [[nodiscard]] io::Task<Result<void>> unlock(std::string password);

  // Changes key slots; durable when it succeeds. See docs/durability.md for the order of writes.
  [[nodiscard]] io::Task<Result<void>> amend(LuksAmendment amendment);

 protected:
  using Key = std::optional<crypto::SecretBytes>;

  [[nodiscard]] virtual uint32_t slot_limit() const = 0;
  // In the order in which they are tried.
  [[nodiscard]] virtual std::vector<uint32_t> active_slots() const = 0;
  // The key, when the slot is active and opens with the password, which outlives the task.
  [[nodiscard]] virtual io::Task<Result<Key>> try_slot(uint32_t index,
                                                       const std::string& password) = 0;
  // Puts the key into a slot that is not active, or erases one. After a failure what is known of
  // the slots is what the disk was known to hold before.
  [[nodiscard]] virtual io::Task<Result<void>> fill_slot(uint32_t index, crypto::SecretBytes key,
                                                         std::string password,
                                                         uint64_t milliseconds) = 0;
  [[nodiscard]] virtual io::Task<Result<void>> erase_slot(uint32_t index) = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<block::SectorCodec>> make_codec(
      std::span<const std::byte> key) const = 0;

  HeaderArea area_;
  const LuksOpening opening_;

 private:
  // From any slot; nothing when none opens.
  [[nodiscard]] io::Task<Result<Key>> find_key(const std::string& password);
  [[nodiscard]] bool is_active(uint32_t index) const;
  [[nodiscard]] Result<uint32_t> choose_slot(const LuksAmendment& amendment) const;
  [[nodiscard]] Result<void> check_slot_index(uint32_t index) const;
  [[nodiscard]] Result<void> check_erasure(const LuksAmendment& amendment, std::size_t slots) const;
  [[nodiscard]] io::Task<Result<void>> activate(LuksAmendment amendment);
  [[nodiscard]] io::Task<Result<void>> erase(LuksAmendment amendment);
  [[nodiscard]] io::Task<Result<std::vector<uint32_t>>> slots_to_erase(LuksAmendment amendment);

  std::unique_ptr<block::SectorCodec> codec_;
};

// Reads and checks the header, and takes the key out of it.
[[nodiscard]] io::Task<Result<std::unique_ptr<LuksVolume>>> open_luks(HeaderArea area,
                                                                      LuksOpening opening);

// Bytes from the beginning of a new header to where its disk begins, or, when it is detached, to
// its end.
[[nodiscard]] uint64_t luks_header_length(const LuksParameters& parameters);
// A new header with a new key in its first slot; what follows these bytes up to
// luks_header_length() reads as zeroes. `detached`: the disk begins with the first byte of another
// file.
[[nodiscard]] io::Task<Result<std::vector<std::byte>>> make_luks_header(LuksParameters parameters,
                                                                        std::string password,
                                                                        bool detached);

}  // namespace cairn::encryption
