#include "formats/vmdk/content_id.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "base/sector.h"
#include "formats/vmdk/layout.h"

namespace cairn::vmdk {

namespace {

constexpr std::size_t kMostDigits = 8;
constexpr uint32_t kBitsADigit = 4;

// With fewer, few ids are left to choose from.
constexpr std::size_t kEnoughDigits = 6;

// `id` with exactly so many digits, at most eight.
uint32_t with_digits(uint32_t id, std::size_t digits) {
  const uint32_t one = uint32_t{1} << ((digits - 1) * kBitsADigit);
  return id % (one * 15) + one;
}

}  // namespace

Result<uint32_t> random_content_id() {
  uint32_t id = kNoParent;
  while (id >= kNoParent - 1) {
    if (getrandom(&id, sizeof id, 0) != sizeof id) {
      return fail_errno(errno, "There is no random number for a content id");
    }
  }
  return id;
}

io::Task<Result<void>> ContentId::change() {
  const auto lock = co_await changing_.lock();
  if (changed_) {
    co_return Result<void>{};
  }
  uint32_t id = ids_.id;
  while (id == ids_.id || id >= kNoParent - 1) {
    const Result<uint32_t> drawn = random_content_id();
    if (!drawn) {
      co_return std::unexpected(drawn.error());
    }
    id = *drawn;
    if (ids_.id_digits >= kEnoughDigits || text_.size() > kSector) {
      id = with_digits(id, std::min(ids_.id_digits, kMostDigits));
    }
  }
  std::string digits = fmt::format("{:x}", id);
  std::string text = text_;
  text.replace(ids_.id_offset, ids_.id_digits, digits);
  // A text of another length lies in one sector, if it can.
  const bool in_place = digits.size() == ids_.id_digits;
  uint64_t at = offset_ + (in_place ? ids_.id_offset : 0);
  std::string_view part = in_place ? std::string_view(digits) : std::string_view(text);
  std::string padded;
  if (text.size() < text_.size()) {
    padded = text + std::string(text_.size() - text.size(), '\n');
    part = padded;
  }
  Result<void> result = co_await file_.write(at, part.data(), part.size());
  if (result) {
    result = co_await file_.flush();
  }
  if (!result) {
    co_return pass(result, "Could not change the content id: ");
  }
  ids_.id = id;
  ids_.id_digits = digits.size();
  text_ = padded.empty() ? std::move(text) : std::move(padded);
  changed_ = true;
  co_return Result<void>{};
}

}  // namespace cairn::vmdk
