// Digests, by the examples of the standard.
#include "crypto/digest.h"

#include <array>
#include <cstddef>

#include <gtest/gtest.h>

namespace cairn::crypto {
namespace {

// FIPS 180-2, appendix B.1; and of nothing.
TEST(Digest, Sha256IsThatOfTheStandard) {
  auto digest = make_sha256().value();
  EXPECT_EQ(digest->finish().value(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  digest = make_sha256().value();
  constexpr std::array kText{std::byte{'a'}, std::byte{'b'}, std::byte{'c'}};
  digest->update(std::span(kText).first(1));
  digest->update(std::span(kText).subspan(1));
  EXPECT_EQ(digest->finish().value(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace cairn::crypto
