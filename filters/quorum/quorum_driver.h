// QuorumDriver: writes to all of its children, "children.0" and so on, and shows what enough of
// them agree on.
//
// Invariants
// - A request succeeds when it has at least as many children on its side as the threshold says, and
//   tells of those that are not (block/vote_report.h).
// - There are never fewer children than that. They come and go between requests only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "block/driver.h"
#include "block/node.h"
#include "block/vote_report.h"

namespace cairn::filters::quorum {

class QuorumDriver final : public block::RequestDriver {
 public:
  struct Settings {
    std::size_t threshold = 1;
    bool first_only = false;         // read from the first child that does not fail
    bool rewrite = false;            // write what was agreed on to those that differ
    bool end_on_difference = false;  // of two children: tell where they differ, and end
  };

  // The node of this driver has the children already.
  QuorumDriver(const block::Node& node, Settings settings);

  [[nodiscard]] uint64_t length() const override;
  [[nodiscard]] block::Limits limits() const override { return {.native_fua = true}; }
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;
  [[nodiscard]] std::optional<bool> dirty() const override { return std::nullopt; }
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;

  [[nodiscard]] Result<std::string> name_new_child() const override;
  [[nodiscard]] Result<void> may_remove_child(const block::Edge& child) const override;
  void children_changed() override;

 private:
  struct Answer;
  struct Request;

  [[nodiscard]] std::vector<Answer> ask();
  [[nodiscard]] io::Task<Result<void>> read_first(uint64_t offset, io::IoVector data);
  [[nodiscard]] io::Task<Result<void>> read_voted(uint64_t offset, io::IoVector data);
  [[nodiscard]] Result<void> settle(const Request& request, const std::vector<Answer>& answers);
  [[nodiscard]] Result<std::size_t> vote(std::vector<Answer>& answers) const;
  [[nodiscard]] io::Task<void> mend(const Request& request, std::vector<Answer>& answers,
                                    std::size_t winner, io::IoVector right);
  void report_child(const Request& request, const block::Edge& child, std::string error) const;
  void report_failure(const Request& request) const;

  const block::Node& self_;
  const Settings settings_;
  std::size_t next_index_;  // of the next child's name
};

}  // namespace cairn::filters::quorum
