// What may be done with key slots, whatever the version: the rules, and in which order mistakes are
// told.
#include <algorithm>
#include <cerrno>

#include "block/graph.h"
#include "crypto/cipher.h"
#include "formats/encryption/luks_volume.h"

namespace cairn::encryption {
namespace {

constexpr uint64_t kUsualMilliseconds = 2000;

}  // namespace

bool LuksVolume::is_active(uint32_t index) const {
  return std::ranges::count(active_slots(), index) != 0;
}

Result<void> LuksVolume::check_slot_index(uint32_t index) const {
  if (index >= slot_limit()) {
    return fail(EINVAL, "Invalid keyslot {} specified, must be between 0 and {}", index,
                slot_limit() - 1);
  }
  return {};
}

io::Task<Result<LuksVolume::Key>> LuksVolume::find_key(const std::string& password) {
  for (const uint32_t index : active_slots()) {
    Result<Key> key = co_await try_slot(index, password);
    if (!key || key->has_value()) {
      co_return key;
    }
  }
  co_return Key();
}

io::Task<Result<void>> LuksVolume::unlock(std::string password) {
  Result<Key> key = co_await find_key(password);
  crypto::wipe(password);
  if (!key) {
    co_return pass(key);
  }
  if (!key->has_value()) {
    co_return fail(EPERM, "Invalid password, cannot unlock any keyslot");
  }
  auto codec = make_codec((*key)->span());
  if (!codec) {
    co_return pass(codec);
  }
  codec_ = std::move(*codec);
  co_return Result<void>{};
}

io::Task<Result<void>> LuksVolume::amend(LuksAmendment amendment) {
  if (auto possible = check_amendment(amendment); !possible) {
    co_return possible;
  }
  if (amendment.activate) {
    co_return co_await activate(std::move(amendment));
  }
  co_return co_await erase(std::move(amendment));
}

Result<uint32_t> LuksVolume::choose_slot(const LuksAmendment& amendment) const {
  if (!amendment.keyslot) {
    for (uint32_t index = 0; index < slot_limit(); ++index) {
      if (!is_active(index)) {
        return index;
      }
    }
    return fail(ENOSPC, "Can't add a keyslot - all keyslots are in use");
  }
  const uint32_t index = *amendment.keyslot;
  if (auto possible = check_slot_index(index); !possible) {
    return pass(possible);
  }
  if (is_active(index) && !amendment.force) {
    return fail(EINVAL, "Refusing to overwrite active keyslot {} - please erase it first", index);
  }
  return index;
}

io::Task<Result<void>> LuksVolume::activate(LuksAmendment amendment) {
  const Result<uint32_t> index = choose_slot(amendment);
  if (!index) {
    co_return std::unexpected(index.error());
  }
  const auto& secret = amendment.secret ? amendment.secret : opening_.secret;
  Result<std::string> password = find_password(*opening_.graph, secret, opening_.prefix);
  if (!password) {
    co_return pass(password);
  }
  Result<Key> key = co_await find_key(*password);
  crypto::wipe(*password);
  if (!key) {
    co_return pass(key);
  }
  if (!key->has_value()) {
    co_return fail(EPERM, "Failed to retrieve the master key");
  }
  Result<std::string> added = opening_.graph->find_secret(*amendment.new_secret);
  if (!added) {
    co_return pass(added);
  }
  if (is_active(*index)) {  // it was forced
    Result<void> erased = co_await erase_slot(*index);
    if (!erased) {
      co_return erased;
    }
  }
  crypto::SecretBytes master = std::move(**key);
  co_return co_await fill_slot(*index, std::move(master), std::move(*added),
                               amendment.milliseconds.value_or(kUsualMilliseconds));
}

// The slots that are meant, whether they may be erased or not.
io::Task<Result<std::vector<uint32_t>>> LuksVolume::slots_to_erase(LuksAmendment amendment) {
  std::string old;
  if (amendment.old_secret) {
    Result<std::string> found = opening_.graph->find_secret(*amendment.old_secret);
    if (!found) {
      co_return pass(found);
    }
    old = std::move(*found);
  }
  std::vector<uint32_t> candidates = active_slots();
  if (amendment.keyslot) {
    if (auto possible = check_slot_index(*amendment.keyslot); !possible) {
      co_return pass(possible);
    }
    candidates = {*amendment.keyslot};
  }
  if (!amendment.old_secret) {
    co_return candidates;
  }
  std::vector<uint32_t> matching;
  for (const uint32_t index : candidates) {
    const Result<Key> key = co_await try_slot(index, old);
    if (!key) {
      co_return std::unexpected(key.error());
    }
    if (key->has_value()) {
      matching.push_back(index);
    }
  }
  crypto::wipe(old);
  if (matching.empty() && amendment.keyslot) {
    co_return fail(EINVAL,
                   "Given keyslot {} doesn't contain the given old password for erase operation",
                   *amendment.keyslot);
  }
  if (matching.empty()) {
    co_return fail(EINVAL, "No keyslots match given (old) password for erase operation");
  }
  co_return matching;
}

// Of `slots` slots: nothing that is there no more, and not the last way to the data.
Result<void> LuksVolume::check_erasure(const LuksAmendment& amendment, std::size_t slots) const {
  if (amendment.force) {
    return {};
  }
  const std::size_t active = active_slots().size();
  if (!amendment.keyslot) {
    if (active == slots) {
      return fail(EINVAL,
                  "All the active keyslots match the (old) password that was given and erasing "
                  "them will erase all the data in the image irreversibly - refusing operation");
    }
    return {};
  }
  const uint32_t index = *amendment.keyslot;
  if (!is_active(index)) {
    return fail(EINVAL, "Given keyslot {} is already erased (inactive) ", index);
  }
  if (active == 1) {
    return fail(EINVAL,
                "Attempt to erase the only active keyslot {} which will erase all the data in the "
                "image irreversibly - refusing operation",
                index);
  }
  return {};
}

io::Task<Result<void>> LuksVolume::erase(LuksAmendment amendment) {
  const Result<std::vector<uint32_t>> slots = co_await slots_to_erase(amendment);
  if (!slots) {
    co_return std::unexpected(slots.error());
  }
  if (auto possible = check_erasure(amendment, slots->size()); !possible) {
    co_return possible;
  }
  for (const uint32_t index : *slots) {
    Result<void> erased = co_await erase_slot(index);
    if (!erased) {
      co_return erased;
    }
  }
  co_return Result<void>{};
}

}  // namespace cairn::encryption
