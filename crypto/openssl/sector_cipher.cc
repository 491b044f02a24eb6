#include "crypto/openssl/sector_cipher.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "crypto/hash.h"
#include "crypto/openssl/cipher_context.h"
#include "crypto/openssl/hash.h"
#include "crypto/secret_bytes.h"

namespace cairn::crypto::openssl {
namespace {

constexpr std::size_t kLargestBlock = 16;
// Sectors are done in batches of about so many bytes, so that what they need on the way stays in
// the processor's cache and on the stack.
constexpr std::size_t kBatchBytes = 8192;
constexpr std::size_t kBatchSectors = 16;

// What one call uses at a time.
struct Working {
  CipherContext data;
  std::optional<CipherContext> tweak;  // XTS: encrypts initialisation vectors
  std::optional<CipherContext> essiv;  // makes initialisation vectors from numbers

  [[nodiscard]] Result<Working> copy() const {
    Result<CipherContext> same = data.copy();
    if (!same) {
      return pass(same);
    }
    Working made{.data = std::move(*same), .tweak = {}, .essiv = {}};
    for (auto member : {&Working::tweak, &Working::essiv}) {
      if (this->*member) {
        Result<CipherContext> other = (this->*member)->copy();
        if (!other) {
          return pass(other);
        }
        made.*member = std::move(*other);
      }
    }
    return made;
  }
};

// Contexts of one direction: OpenSSL's hold the state of a call, so each call takes one of its own.
class WorkingPool {
 public:
  explicit WorkingPool(Working first) : pattern_(std::move(first)) {}

  [[nodiscard]] Result<Working> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        Working working = std::move(idle_.back());
        idle_.pop_back();
        return working;
      }
    }
    return pattern_.copy();
  }
  void give_back(Working working) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(working));
  }

 private:
  const Working pattern_;
  std::mutex mutex_;
  std::vector<Working> idle_;
};

// The tweak of the next block (IEEE 1619, 5.2): multiplication by x in GF(2^128).
void next_tweak(uint64_t& low, uint64_t& high) {
  const uint64_t carry = high >> 63;
  high = (high << 1) | (low >> 63);
  low = (low << 1) ^ (carry * 0x87);
}

class OpensslSectorCipher final : public SectorCipher {
 public:
  OpensslSectorCipher(const SectorCipherParameters& parameters, Working encrypting,
                      Working decrypting)
      : parameters_(parameters),
        block_(block_length(parameters.cipher)),
        encrypting_(std::move(encrypting)),
        decrypting_(std::move(decrypting)) {}

  Result<void> encrypt(uint64_t number, std::span<const std::byte> in,
                       std::span<std::byte> out) const override {
    return run(encrypting_, number, in, out);
  }
  Result<void> decrypt(uint64_t number, std::span<const std::byte> in,
                       std::span<std::byte> out) const override {
    return run(decrypting_, number, in, out);
  }

 private:
  Result<void> run(WorkingPool& pool, uint64_t number, std::span<const std::byte> in,
                   std::span<std::byte> out) const;
  bool run_batch(Working& working, uint64_t number, std::span<const std::byte> in,
                 std::span<std::byte> out) const;
  bool make_ivs(Working& working, uint64_t number, std::span<std::byte> ivs) const;
  bool run_xts(Working& working, std::span<const std::byte> tweaks, std::span<const std::byte> in,
               std::span<std::byte> out) const;

  const SectorCipherParameters parameters_;
  const std::size_t block_;
  mutable WorkingPool encrypting_;
  mutable WorkingPool decrypting_;
};

Result<void> OpensslSectorCipher::run(WorkingPool& pool, uint64_t number,
                                      std::span<const std::byte> in,
                                      std::span<std::byte> out) const {
  const std::size_t sector = parameters_.sector_size;
  if (in.size() != out.size() || in.size() % sector != 0) {
    return fail(EIO, "Internal error: {} bytes are no sectors", in.size());
  }
  Result<Working> working = pool.take();
  if (!working) {
    return pass(working);
  }
  const std::size_t batch =
      std::clamp<std::size_t>(kBatchBytes / sector, 1, kBatchSectors) * sector;
  bool good = true;
  for (std::size_t done = 0; good && done < in.size();) {
    const std::size_t piece = std::min(batch, in.size() - done);
    good = run_batch(*working, number, in.subspan(done, piece), out.subspan(done, piece));
    number += piece / sector * parameters_.iv_step;
    done += piece;
  }
  pool.give_back(std::move(*working));
  return good ? Result<void>{} : fail(EIO, "A cipher failed");
}

bool OpensslSectorCipher::run_batch(Working& working, uint64_t number,
                                    std::span<const std::byte> in, std::span<std::byte> out) const {
  if (parameters_.mode == CipherMode::kEcb) {
    return working.data.update(in, out);
  }
  const std::size_t sector = parameters_.sector_size;
  std::array<std::byte, kBatchSectors * kLargestBlock> memory;
  const std::span<std::byte> ivs = std::span(memory).first(in.size() / sector * block_);
  if (!make_ivs(working, number, ivs)) {
    return false;
  }
  if (parameters_.mode == CipherMode::kXts) {
    return working.tweak->update(ivs, ivs) && run_xts(working, ivs, in, out);
  }
  for (std::size_t i = 0; i * sector < in.size(); ++i) {
    const std::span<const std::byte> from = in.subspan(i * sector, sector);
    if (!working.data.start(ivs.subspan(i * block_, block_)) ||
        !working.data.update(from, out.subspan(i * sector, sector))) {
      return false;
    }
  }
  return true;
}

// XTS is ECB between two additions of tweaks. OpenSSL's own takes a call a sector, and so more time
// than the cipher itself for small ones; this way a call does many sectors, with any cipher.
bool OpensslSectorCipher::run_xts(Working& working, std::span<const std::byte> tweaks,
                                  std::span<const std::byte> in, std::span<std::byte> out) const {
  alignas(64) std::array<std::byte, kBatchBytes> memory;
  const std::size_t sector = parameters_.sector_size;
  for (std::size_t begin = 0; begin < in.size();) {
    // A batch is many small sectors or a part of a large one, whose tweak goes on.
    const std::size_t end = begin + std::min<std::size_t>(kBatchBytes, in.size() - begin);
    uint64_t low = 0;
    uint64_t high = 0;
    for (std::size_t at = begin; at < end; at += kLargestBlock) {
      if (at % sector == 0) {
        low = load_le<uint64_t>(tweaks.data() + at / sector * kLargestBlock);
        high = load_le<uint64_t>(tweaks.data() + at / sector * kLargestBlock + 8);
      } else {
        next_tweak(low, high);
      }
      std::byte* const tweak = memory.data() + (at - begin);
      store_le(tweak, low);
      store_le(tweak + 8, high);
      store_le(out.data() + at, load_le<uint64_t>(in.data() + at) ^ low);
      store_le(out.data() + at + 8, load_le<uint64_t>(in.data() + at + 8) ^ high);
    }
    const std::span<std::byte> piece = out.subspan(begin, end - begin);
    if (!working.data.update(piece, piece)) {
      return false;
    }
    for (std::size_t i = 0; i < piece.size(); ++i) {
      piece[i] ^= memory[i];
    }
    begin = end;
  }
  return true;
}

bool OpensslSectorCipher::make_ivs(Working& working, uint64_t number,
                                   std::span<std::byte> ivs) const {
  std::ranges::fill(ivs, std::byte{0});
  for (std::size_t at = 0; at < ivs.size(); at += block_) {
    const uint64_t shown =
        parameters_.iv_generator == IvGenerator::kPlain ? number & UINT32_MAX : number;
    store_le(ivs.data() + at, shown);
    number += parameters_.iv_step;
  }
  return !working.essiv || working.essiv->update(ivs, ivs);
}

// The cipher that initialisation vectors are encrypted with: of the same family, as its key is the
// hash of the disk's.
Result<CipherContext> make_essiv(const SectorCipherParameters& parameters,
                                 std::span<const std::byte> key) {
  SecretBytes digest(digest_length(parameters.iv_hash));
  const std::array parts = {key};
  if (auto hashed = openssl::hash_bytes(parameters.iv_hash, parts, digest.span()); !hashed) {
    return pass(hashed);
  }
  const auto cipher = find_cipher(family_of(parameters.cipher), digest.size());
  if (!cipher || block_length(*cipher) != block_length(parameters.cipher)) {
    std::string family(family_of(parameters.cipher));
    std::ranges::transform(family, family.begin(), [](unsigned char c) { return std::toupper(c); });
    return fail(ENOTSUP, "No {} cipher with key size {} available", family, digest.size());
  }
  return CipherContext::create(*cipher, CipherMode::kEcb, true, digest.span());
}

Result<Working> make_working(const SectorCipherParameters& parameters,
                             std::span<const std::byte> key, bool encrypt) {
  const std::size_t length = key_length(parameters.cipher);
  const bool is_xts = parameters.mode == CipherMode::kXts;
  auto data = CipherContext::create(parameters.cipher, parameters.mode, encrypt, key.first(length));
  if (!data) {
    return pass(data);
  }
  Working working{.data = std::move(*data), .tweak = {}, .essiv = {}};
  if (is_xts) {
    auto tweak =
        CipherContext::create(parameters.cipher, CipherMode::kEcb, true, key.subspan(length));
    if (!tweak) {
      return pass(tweak);
    }
    working.tweak = std::move(*tweak);
  }
  if (parameters.iv_generator == IvGenerator::kEssiv) {
    auto essiv = make_essiv(parameters, key);
    if (!essiv) {
      return pass(essiv);
    }
    working.essiv = std::move(*essiv);
  }
  return working;
}

}  // namespace

Result<std::unique_ptr<SectorCipher>> make_sector_cipher(const SectorCipherParameters& parameters,
                                                         std::span<const std::byte> key) {
  Result<Working> encrypting = make_working(parameters, key, true);
  if (!encrypting) {
    return pass(encrypting);
  }
  Result<Working> decrypting = make_working(parameters, key, false);
  if (!decrypting) {
    return pass(decrypting);
  }
  return std::make_unique<OpensslSectorCipher>(parameters, std::move(*encrypting),
                                               std::move(*decrypting));
}

}  // namespace cairn::crypto::openssl
