// The handlers of all commands. What each does is said in schema/*.json; the arguments have been
// checked against it. The services outlive the task.
#pragma once

#include <vector>

#include "base/result.h"
#include "io/task.h"
#include "monitor/services.h"
#include "schema/commands.h"

namespace cairn::monitor {

namespace commands = schema::commands;

template <typename Command>
using HandlerResult = io::Task<Result<typename Command::Result>>;

// control_handlers.cc
HandlerResult<commands::QmpCapabilities> handle(Services& services, commands::QmpCapabilities,
                                                schema::QmpCapabilitiesArguments arguments);
HandlerResult<commands::QueryVersion> handle(Services& services, commands::QueryVersion,
                                             schema::NoArguments);
HandlerResult<commands::QueryCommands> handle(Services& services, commands::QueryCommands,
                                              schema::NoArguments);
HandlerResult<commands::QueryQmpSchema> handle(Services& services, commands::QueryQmpSchema,
                                               schema::NoArguments);
HandlerResult<commands::Quit> handle(Services& services, commands::Quit, schema::NoArguments);

// chardev_handlers.cc
HandlerResult<commands::QueryChardev> handle(Services& services, commands::QueryChardev,
                                             schema::NoArguments);
HandlerResult<commands::QueryChardevBackends> handle(Services& services,
                                                     commands::QueryChardevBackends,
                                                     schema::NoArguments);
HandlerResult<commands::ChardevAdd> handle(Services& services, commands::ChardevAdd,
                                           schema::ChardevAddArguments arguments);
HandlerResult<commands::ChardevChange> handle(Services& services, commands::ChardevChange,
                                              schema::ChardevChangeArguments arguments);
HandlerResult<commands::ChardevRemove> handle(Services& services, commands::ChardevRemove,
                                              schema::ChardevRemoveArguments arguments);
HandlerResult<commands::ChardevSendBreak> handle(Services& services, commands::ChardevSendBreak,
                                                 schema::ChardevSendBreakArguments arguments);
HandlerResult<commands::RingbufWrite> handle(Services& services, commands::RingbufWrite,
                                             schema::RingbufWriteArguments arguments);
HandlerResult<commands::RingbufRead> handle(Services& services, commands::RingbufRead,
                                            schema::RingbufReadArguments arguments);

// object_handlers.cc
HandlerResult<commands::ObjectAdd> handle(Services& services, commands::ObjectAdd,
                                          schema::ObjectOptions options);
HandlerResult<commands::ObjectDel> handle(Services& services, commands::ObjectDel,
                                          schema::ObjectDelArguments arguments);
HandlerResult<commands::QomList> handle(Services& services, commands::QomList,
                                        schema::QomListArguments arguments);
HandlerResult<commands::QomGet> handle(Services& services, commands::QomGet,
                                       schema::QomGetArguments arguments);
HandlerResult<commands::QomSet> handle(Services& services, commands::QomSet,
                                       schema::QomSetArguments arguments);
HandlerResult<commands::QomListGet> handle(Services& services, commands::QomListGet,
                                           schema::QomListGetArguments arguments);
HandlerResult<commands::QomListTypes> handle(Services& services, commands::QomListTypes,
                                             schema::QomListTypesArguments arguments);
HandlerResult<commands::QomListProperties> handle(Services& services, commands::QomListProperties,
                                                  schema::QomListPropertiesArguments arguments);

// block_handlers.cc
HandlerResult<commands::QueryBlock> handle(Services& services, commands::QueryBlock,
                                           schema::NoArguments);
HandlerResult<commands::QueryBlockstats> handle(Services& services, commands::QueryBlockstats,
                                                schema::QueryBlockstatsArguments arguments);
HandlerResult<commands::QueryNamedBlockNodes> handle(
    Services& services, commands::QueryNamedBlockNodes,
    schema::QueryNamedBlockNodesArguments arguments);
HandlerResult<commands::XDebugQueryBlockGraph> handle(Services& services,
                                                      commands::XDebugQueryBlockGraph,
                                                      schema::NoArguments);
HandlerResult<commands::BlockdevAdd> handle(Services& services, commands::BlockdevAdd,
                                            schema::BlockdevOptions options);
HandlerResult<commands::BlockdevDel> handle(Services& services, commands::BlockdevDel,
                                            schema::BlockdevDelArguments arguments);
HandlerResult<commands::BlockResize> handle(Services& services, commands::BlockResize,
                                            schema::BlockResizeArguments arguments);
HandlerResult<commands::BlockSetWriteThreshold> handle(
    Services& services, commands::BlockSetWriteThreshold,
    schema::BlockSetWriteThresholdArguments arguments);

// bitmap_handlers.cc
HandlerResult<commands::BlockDirtyBitmapAdd> handle(Services& services,
                                                    commands::BlockDirtyBitmapAdd,
                                                    schema::BlockDirtyBitmapAdd arguments);
HandlerResult<commands::BlockDirtyBitmapRemove> handle(Services& services,
                                                       commands::BlockDirtyBitmapRemove,
                                                       schema::BlockDirtyBitmap arguments);
HandlerResult<commands::BlockDirtyBitmapClear> handle(Services& services,
                                                      commands::BlockDirtyBitmapClear,
                                                      schema::BlockDirtyBitmap arguments);
HandlerResult<commands::BlockDirtyBitmapEnable> handle(Services& services,
                                                       commands::BlockDirtyBitmapEnable,
                                                       schema::BlockDirtyBitmap arguments);
HandlerResult<commands::BlockDirtyBitmapDisable> handle(Services& services,
                                                        commands::BlockDirtyBitmapDisable,
                                                        schema::BlockDirtyBitmap arguments);
HandlerResult<commands::BlockDirtyBitmapMerge> handle(Services& services,
                                                      commands::BlockDirtyBitmapMerge,
                                                      schema::BlockDirtyBitmapMerge arguments);
HandlerResult<commands::XDebugBlockDirtyBitmapSha256> handle(Services& services,
                                                             commands::XDebugBlockDirtyBitmapSha256,
                                                             schema::BlockDirtyBitmap arguments);

// transaction.cc
HandlerResult<commands::Transaction> handle(Services& services, commands::Transaction,
                                            schema::TransactionArguments arguments);

// reopen_handlers.cc
HandlerResult<commands::BlockdevReopen> handle(Services& services, commands::BlockdevReopen,
                                               schema::BlockdevReopenArguments arguments);
HandlerResult<commands::BlockdevSetActive> handle(Services& services, commands::BlockdevSetActive,
                                                  schema::BlockdevSetActiveArguments arguments);
HandlerResult<commands::XBlockdevChange> handle(Services& services, commands::XBlockdevChange,
                                                schema::XBlockdevChangeArguments arguments);

// snapshot_handlers.cc
HandlerResult<commands::BlockdevSnapshotSync> handle(Services& services,
                                                     commands::BlockdevSnapshotSync,
                                                     schema::BlockdevSnapshotSync arguments);
HandlerResult<commands::BlockdevSnapshot> handle(Services& services, commands::BlockdevSnapshot,
                                                 schema::BlockdevSnapshot arguments);
HandlerResult<commands::BlockdevSnapshotInternalSync> handle(
    Services& services, commands::BlockdevSnapshotInternalSync,
    schema::BlockdevSnapshotInternal arguments);
HandlerResult<commands::BlockdevSnapshotDeleteInternalSync> handle(
    Services& services, commands::BlockdevSnapshotDeleteInternalSync,
    schema::BlockdevSnapshotDeleteInternalSyncArguments arguments);

// copy_handlers.cc
HandlerResult<commands::BlockdevBackup> handle(Services& services, commands::BlockdevBackup,
                                               schema::BlockdevBackup arguments);
HandlerResult<commands::DriveBackup> handle(Services& services, commands::DriveBackup,
                                            schema::DriveBackup arguments);
HandlerResult<commands::BlockdevMirror> handle(Services& services, commands::BlockdevMirror,
                                               schema::BlockdevMirrorArguments arguments);
HandlerResult<commands::DriveMirror> handle(Services& services, commands::DriveMirror,
                                            schema::DriveMirror arguments);

// image_handlers.cc
HandlerResult<commands::ChangeBackingFile> handle(Services& services, commands::ChangeBackingFile,
                                                  schema::ChangeBackingFileArguments arguments);

// export_handlers.cc
HandlerResult<commands::NbdServerStart> handle(Services& services, commands::NbdServerStart,
                                               schema::NbdServerOptionsLegacy options);
HandlerResult<commands::NbdServerStop> handle(Services& services, commands::NbdServerStop,
                                              schema::NoArguments);
HandlerResult<commands::BlockExportAdd> handle(Services& services, commands::BlockExportAdd,
                                               schema::BlockExportOptions options);
HandlerResult<commands::BlockExportDel> handle(Services& services, commands::BlockExportDel,
                                               schema::BlockExportDelArguments arguments);
HandlerResult<commands::NbdServerAdd> handle(Services& services, commands::NbdServerAdd,
                                             schema::NbdServerAddOptions options);
HandlerResult<commands::NbdServerRemove> handle(Services& services, commands::NbdServerRemove,
                                                schema::NbdServerRemoveArguments arguments);
HandlerResult<commands::QueryBlockExports> handle(Services& services, commands::QueryBlockExports,
                                                  schema::NoArguments);
HandlerResult<commands::XBlockdevSetIothread> handle(
    Services& services, commands::XBlockdevSetIothread,
    schema::XBlockdevSetIothreadArguments arguments);

// job_handlers.cc
HandlerResult<commands::QueryJobs> handle(Services& services, commands::QueryJobs,
                                          schema::NoArguments);
HandlerResult<commands::QueryBlockJobs> handle(Services& services, commands::QueryBlockJobs,
                                               schema::NoArguments);
HandlerResult<commands::JobPause> handle(Services& services, commands::JobPause,
                                         schema::JobPauseArguments arguments);
HandlerResult<commands::JobResume> handle(Services& services, commands::JobResume,
                                          schema::JobResumeArguments arguments);
HandlerResult<commands::JobCancel> handle(Services& services, commands::JobCancel,
                                          schema::JobCancelArguments arguments);
HandlerResult<commands::JobComplete> handle(Services& services, commands::JobComplete,
                                            schema::JobCompleteArguments arguments);
HandlerResult<commands::JobDismiss> handle(Services& services, commands::JobDismiss,
                                           schema::JobDismissArguments arguments);
HandlerResult<commands::JobFinalize> handle(Services& services, commands::JobFinalize,
                                            schema::JobFinalizeArguments arguments);
HandlerResult<commands::BlockdevCreate> handle(Services& services, commands::BlockdevCreate,
                                               schema::BlockdevCreateArguments arguments);
HandlerResult<commands::XBlockdevAmend> handle(Services& services, commands::XBlockdevAmend,
                                               schema::XBlockdevAmendArguments arguments);
HandlerResult<commands::BlockJobSetSpeed> handle(Services& services, commands::BlockJobSetSpeed,
                                                 schema::BlockJobSetSpeedArguments arguments);
HandlerResult<commands::BlockJobCancel> handle(Services& services, commands::BlockJobCancel,
                                               schema::BlockJobCancelArguments arguments);
HandlerResult<commands::BlockJobPause> handle(Services& services, commands::BlockJobPause,
                                              schema::BlockJobPauseArguments arguments);
HandlerResult<commands::BlockJobResume> handle(Services& services, commands::BlockJobResume,
                                               schema::BlockJobResumeArguments arguments);
HandlerResult<commands::BlockJobComplete> handle(Services& services, commands::BlockJobComplete,
                                                 schema::BlockJobCompleteArguments arguments);
HandlerResult<commands::BlockJobDismiss> handle(Services& services, commands::BlockJobDismiss,
                                                schema::BlockJobDismissArguments arguments);
HandlerResult<commands::BlockJobFinalize> handle(Services& services, commands::BlockJobFinalize,
                                                 schema::BlockJobFinalizeArguments arguments);

HandlerResult<commands::BlockJobChange> handle(Services& services, commands::BlockJobChange,
                                               schema::BlockJobChangeOptions options);

HandlerResult<commands::BlockStream> handle(Services& services, commands::BlockStream,
                                            schema::BlockStreamArguments arguments);
HandlerResult<commands::BlockCommit> handle(Services& services, commands::BlockCommit,
                                            schema::BlockCommitArguments arguments);

}  // namespace cairn::monitor
