// Qcow2Driver: changes of the image as a whole. No request is in flight meanwhile.
#include <cerrno>
#include <utility>

#include "block/fault_point.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {

io::Task<Result<void>> Qcow2Driver::change_backing(std::string filename, std::string format) {
  if (filename.size() > kMaxBackingNameLength) {
    co_return std::unexpected(Error::from_errno(EINVAL));
  }
  // What the raw data file holds has to be all of the disk.
  if (!filename.empty() && image_.data_is_raw()) {
    co_return std::unexpected(Error::from_errno(EINVAL));
  }
  if (!filename.empty() && format.empty()) {
    co_return fail(EINVAL, "backing format must be specified");
  }
  Result<void> result = co_await prepare_write();
  if (result) {
    // Data that was copied because the backing file goes is to be there first.
    result = co_await settle();
  }
  if (!result) {
    co_return result;
  }
  std::function<void(Header&)> change = [&](Header& header) {
    header.backing_file = filename;
    header.set_string_extension(ExtensionType::kBackingFormat, filename.empty() ? "" : format);
  };
  co_return co_await image_.replace_header(std::move(change));
}

// Each write-out on the way leaves a sound image, with some of what there was.
io::Task<Result<void>> Qcow2Driver::make_empty() {
  co_await block::fault_point(image_.file(), block::FaultPoint::kEmptyImagePrepare);
  Result<void> result = co_await prepare_write();
  const Geometry& geometry = image_.geometry();
  const uint64_t end = mapping_.l1().size() * geometry.l2_coverage();
  if (result && end != 0) {
    result = co_await drop_clusters(0, end);
  }
  if (result) {
    result = co_await settle();
  }
  if (result) {
    result = co_await cut_file();
  }
  if (result && image_.geometry().external_data) {
    // Not before, or a power cut would leave zeroes where there was data.
    const block::ZeroFlags flags{.may_unmap = true};
    result = co_await clear_data(0, this->length(), flags);
  }
  co_return result;
}

}  // namespace cairn::qcow2
