// The structures and numbers of exports/ublk/protocol.h are those of the kernel's header, where
// there is one.
#include "exports/ublk/protocol.h"

#include <cstddef>

#include <gtest/gtest.h>

#if __has_include(<linux/ublk_cmd.h>)
#include <linux/ublk_cmd.h>
#endif

namespace cairn::ublk {
namespace {

TEST(Protocol, NumbersCommandsAsIoctlDoes) {
  EXPECT_EQ(number_of(Control::kAddDevice, false), 0x04u);
  EXPECT_EQ(number_of(Control::kAddDevice, true), 0xc0207504u);
  EXPECT_EQ(number_of(Control::kGetFeatures, true), 0x80207513u);
  EXPECT_EQ(number_of(PlaceCommand::kFetch, false), 0x20u);
  EXPECT_EQ(number_of(PlaceCommand::kCommitAndFetch, true), 0xc0107521u);
}

#ifdef UBLK_CMD_ADD_DEV
TEST(Protocol, IsThatOfTheKernelsHeader) {
  EXPECT_EQ(sizeof(ControlBody), sizeof(ublksrv_ctrl_cmd));
  EXPECT_EQ(offsetof(ControlBody, length), offsetof(ublksrv_ctrl_cmd, len));
  EXPECT_EQ(offsetof(ControlBody, address), offsetof(ublksrv_ctrl_cmd, addr));
  EXPECT_EQ(offsetof(ControlBody, value), offsetof(ublksrv_ctrl_cmd, data));
  EXPECT_EQ(sizeof(DeviceInfo), sizeof(ublksrv_ctrl_dev_info));
  EXPECT_EQ(offsetof(DeviceInfo, queue_depth), offsetof(ublksrv_ctrl_dev_info, queue_depth));
  EXPECT_EQ(offsetof(DeviceInfo, state), offsetof(ublksrv_ctrl_dev_info, state));
  EXPECT_EQ(offsetof(DeviceInfo, buffer_bytes), offsetof(ublksrv_ctrl_dev_info, max_io_buf_bytes));
  EXPECT_EQ(offsetof(DeviceInfo, device), offsetof(ublksrv_ctrl_dev_info, dev_id));
  EXPECT_EQ(offsetof(DeviceInfo, server), offsetof(ublksrv_ctrl_dev_info, ublksrv_pid));
  EXPECT_EQ(offsetof(DeviceInfo, flags), offsetof(ublksrv_ctrl_dev_info, flags));
  EXPECT_EQ(sizeof(PlaceBody), sizeof(ublksrv_io_cmd));
  EXPECT_EQ(offsetof(PlaceBody, place), offsetof(ublksrv_io_cmd, tag));
  EXPECT_EQ(offsetof(PlaceBody, result), offsetof(ublksrv_io_cmd, result));
  EXPECT_EQ(offsetof(PlaceBody, address), offsetof(ublksrv_io_cmd, addr));
  EXPECT_EQ(sizeof(RequestDescription), sizeof(ublksrv_io_desc));
  EXPECT_EQ(offsetof(RequestDescription, sectors), offsetof(ublksrv_io_desc, nr_sectors));
  EXPECT_EQ(offsetof(RequestDescription, first_sector), offsetof(ublksrv_io_desc, start_sector));
  EXPECT_EQ(offsetof(Parameters, attributes), offsetof(ublk_params, basic.attrs));
  EXPECT_EQ(offsetof(Parameters, smallest_transfer_shift),
            offsetof(ublk_params, basic.io_min_shift));
  EXPECT_EQ(offsetof(Parameters, most_sectors), offsetof(ublk_params, basic.max_sectors));
  EXPECT_EQ(offsetof(Parameters, sectors), offsetof(ublk_params, basic.dev_sectors));
  EXPECT_EQ(offsetof(Parameters, discard_granularity),
            offsetof(ublk_params, discard.discard_granularity));
  EXPECT_EQ(offsetof(Parameters, most_zeroed_sectors),
            offsetof(ublk_params, discard.max_write_zeroes_sectors));
  EXPECT_EQ(offsetof(Parameters, discard_ranges),
            offsetof(ublk_params, discard.max_discard_segments));
  EXPECT_EQ(static_cast<int>(Control::kEndRecovery), UBLK_CMD_END_USER_RECOVERY);
  EXPECT_EQ(static_cast<int>(Control::kSetParameters), UBLK_CMD_SET_PARAMS);
  EXPECT_EQ(static_cast<int>(PlaceCommand::kFetch), UBLK_IO_FETCH_REQ);
  EXPECT_EQ(kUserRecoveryReissue, UBLK_F_USER_RECOVERY_REISSUE);
  EXPECT_EQ(kForcedUnitAccess, UBLK_ATTR_FUA);
  EXPECT_EQ(kDurable, UBLK_IO_F_FUA);
  EXPECT_EQ(kKeepAllocated, UBLK_IO_F_NOUNMAP);
  EXPECT_EQ(static_cast<int>(RequestKind::kWriteZeroes), UBLK_IO_OP_WRITE_ZEROES);
  EXPECT_EQ(kMostPlaces, UBLK_MAX_QUEUE_DEPTH);
}
#endif

}  // namespace
}  // namespace cairn::ublk
