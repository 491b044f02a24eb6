// NbdDriver: an export of an NBD server as a node. Turns requests into those of the protocol, and
// keeps to what the server can do and to the sizes it wants.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "block/driver.h"
#include "protocols/nbd/session.h"

namespace cairn::nbd::client {

class NbdDriver final : public block::RequestDriver {
 public:
  // `session` is open.
  explicit NbdDriver(std::unique_ptr<Session> session) : session_(std::move(session)) {}

  [[nodiscard]] std::optional<bool> dirty() const override { return std::nullopt; }
  [[nodiscard]] uint64_t length() const override { return info().size; }
  [[nodiscard]] block::Limits limits() const override;

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;
  // The size is the server's; taking note of the one it has is all that can be done.
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<void>> close() override;
  // Nothing of the connection depends on what can change.
  [[nodiscard]] Result<bool> adopt_options(const block::NodeOptions& node,
                                           const schema::BlockdevOptions& options) override;

 private:
  [[nodiscard]] const ExportInfo& info() const { return session_->info(); }
  [[nodiscard]] bool offers(uint16_t flag) const { return (info().flags & flag) != 0; }
  // A request without payload; `offset` and `length` may reach into the sector that the end of the
  // export cuts, where the server has nothing.
  [[nodiscard]] io::Task<Result<void>> plain(Command command, uint64_t offset, uint64_t length,
                                             uint16_t flags);

  std::unique_ptr<Session> session_;
};

}  // namespace cairn::nbd::client
