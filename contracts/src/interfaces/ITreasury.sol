// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Records, Signature} from "../Records.sol";
import {ICouncil} from "./ICouncil.sol";
import {IWatchdog} from "./IWatchdog.sol";

/// @title ITreasury
/// @notice Keeps the city's revenue and pays it out for an order that stands in the anchored ledger, or back to whom it
/// came from, against the receipt that stands there.
/// @dev Assumes that tokens are those the Council allowed, and that the coin and tokens are not rebased.
/// There is no owner, no upgrade, no delegatecall and no way to move the balance elsewhere: `execute`, `refund` and
/// `pull` are all.
/// WARNING: what is sent here cannot be sent back; a token that the Council never allows stays for ever.
/// WARNING: an order says what is due, not that there is money; with too little an execution is refused and may be
/// tried again.
interface ITreasury {
    /// @notice An order with all that it rests on. Each part names the next by its hash.
    struct Execution {
        Records.Order order;
        Records.Commitment commitment;
        Records.Milestone milestone;
        Records.Certificate certificate;
        Signature[] orderApprovals;
        Signature[] certificateApprovals;
        uint64 index;
        uint64 headSize;
        uint64 headTime;
        bytes32[] proof;
    }

    /// @notice A refund with the receipt it is bounded by, both in the same head.
    struct Refunding {
        Records.Refund refund;
        Records.Transfer receipt;
        Signature[] authorityApprovals;
        Signature[] auditorApprovals;
        uint64 index;
        uint64 receiptIndex;
        uint64 headSize;
        uint64 headTime;
        bytes32[] proof;
        bytes32[] receiptProof;
    }

    event Executed(
        bytes32 indexed orderHash, bytes32 indexed milestoneHash, address indexed payee, address token, uint256 amount
    );
    event Refunded(
        bytes32 indexed refundHash, bytes32 indexed receiptHash, address indexed to, address token, uint256 amount
    );
    event Disputed(bytes32 indexed commitmentHash, bytes32 indexed disputeHash, address indexed by);
    event Resolved(bytes32 indexed commitmentHash, bytes32 indexed resolutionHash, uint8 outcome);
    event Stopped(bytes32 indexed recordHash, address indexed auditor, uint64 until);
    event Credited(address indexed payee, address indexed token, uint256 amount);
    event Pulled(address indexed payee, address indexed token, uint256 amount);

    error NotSeated(bytes32 role, address holder);
    error AlreadyStopped(bytes32 recordHash, uint64 until);
    error OrderStopped(uint64 until, uint256 time);
    error OrderTooEarly(uint256 payableFrom, uint256 time);
    error AlreadyPaid(bytes32 recordHash);
    error AlreadyTaken(bytes32 recordHash);
    error DocumentMissing(bytes32 recordHash);
    error NotYet(uint64 recordTime, uint256 time);
    error CommitmentDisputed(bytes32 commitmentHash, uint64 disputedAt);
    error CommitmentEnded(bytes32 commitmentHash);
    error NotDisputed(bytes32 commitmentHash);
    error NotTheDisputant(address by, address signer);
    error NoPartyOf(bytes32 commitmentHash, address by);
    error ResolutionOfAnother(uint64 disputedAt, uint64 resolvedAt);
    error UnknownOutcome(uint8 most, uint8 found);
    error ReceiptDiffers(bytes32 named, bytes32 found);
    error AboveReceipt(uint256 most, uint256 total);
    error AboveDay(uint256 most, uint256 total);
    error NotAnAddress(bytes32 word);
    error ReceiverIsContract(address to);
    error MilestonePaid(bytes32 milestoneHash);
    error NotAName(bytes32 word);
    error CommitmentDiffers(bytes32 named, bytes32 found);
    error AllocationDiffers(bytes32 named, bytes32 found);
    error CertificateDiffers(bytes32 named, bytes32 found);
    error MilestoneDiffers(bytes32 named, bytes32 found);
    error MilestoneOfAnother(bytes32 named, bytes32 found);
    error NotAccepted(uint8 needed, uint8 found);
    error AmountNotCertified(uint256 certified, uint256 ordered);
    error AboveMilestone(uint256 most, uint256 ordered);
    error AboveCommitment(uint256 most, uint256 total);
    error AboveAllocation(uint256 most, uint256 total);
    error AmountIsZero(bytes32 recordHash);
    error AllocationNotEnacted(bytes32 allocationHash);
    error PayeeDiffers(bytes32 committed, bytes32 ordered);
    error NotAPayee(bytes32 account, bytes32 kind);
    error NotThisTreasury(bytes32 account, bytes32 owner);
    error FundDiffers(bytes32 needed, bytes32 found);
    error AssetDiffers(bytes32 needed, bytes32 found);
    error BeforeRetentionEnd(uint256 time, uint64 retentionEnd);
    error PayeeTooNew(uint256 payableFrom, uint256 time);
    error NotEnough(uint256 free, uint256 needed);
    error BalanceDiffers(address holder, uint256 expected, uint256 found);
    error NothingCredited(address payee, address token);
    error NotReceived(address payee, address token);

    /// @notice Pay an order that is due. Anybody may call: the order decides who is paid what.
    function execute(Execution calldata execution) external;

    /// @notice Pay a refund that is due. Anybody may call. To where the payer fixed before paying, with the Authority's
    /// signatures; anywhere else with the Auditor's too. Never more in all than the receipt.
    /// WARNING: a Transfer is the writer's word, which operator and watcher anchored; the delay is for the Auditor to see it.
    function refund(Refunding calldata asked) external;

    /// @notice Stop one order or refund for 30 days, once; only a seat of the role auditor. The days are for the Council to
    /// act in.
    function stop(bytes32 recordHash) external;

    /// @notice Hold all payments on a commitment, until the Council resolves it: signed by an auditor, a certifier or the
    /// payee, who is named in the record. It need not be anchored, so that nobody can keep it out.
    function dispute(
        Records.Dispute calldata record,
        Records.Commitment calldata commitment,
        Signature calldata approval
    ) external;

    /// @notice Settle a dispute by an anchored act of the Council: outcome 0 goes on, 1 ends the commitment for ever.
    function resolve(
        Records.Resolution calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof,
        Signature[] calldata approvals
    ) external;

    /// @notice Send a payee what it could not receive when it was paid. Anybody may call.
    function pull(address payee, address token) external;

    function council() external view returns (ICouncil);

    function retentionEnd() external view returns (uint64);

    function watchdog() external view returns (IWatchdog);

    /// @notice Until when an order or a refund is stopped; zero if nobody stopped it.
    function stoppedUntil(bytes32 recordHash) external view returns (uint64);

    /// @notice Whether an order or a refund was paid.
    function isPaid(bytes32 recordHash) external view returns (bool);

    /// @notice What went back of a receipt.
    function refunded(bytes32 receiptHash) external view returns (uint256);

    /// @notice The time of the dispute that holds a commitment; zero if none does.
    function disputedAt(bytes32 commitmentHash) external view returns (uint64);

    /// @notice Whether a commitment was ended by a resolution.
    function isEnded(bytes32 commitmentHash) external view returns (bool);

    function isMilestonePaid(bytes32 milestoneHash) external view returns (bool);

    /// @notice What was paid on a commitment or an allocation, by its hash.
    function paid(bytes32 recordHash) external view returns (uint256);

    /// @notice What a payee may pull.
    function credit(address payee, address token) external view returns (uint256);

    /// @notice What all payees together may pull; no order may spend it.
    function credited(address token) external view returns (uint256);
}
