// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signature} from "../Records.sol";

/// @title ILedgerAnchor
/// @notice The ledger's heads on this chain. A head is accepted only if it extends the one before.
/// @dev Assumes that SHA-256 collides for nobody, that address 2 is SHA-256, and that operator and watcher are different
/// people; that last is why one holder has one role for ever.
/// WARNING: an anchored head says that the log never forgot, not that its records obey the rules. Who reads a record from
/// the anchor must check its approvals too.
/// WARNING: with the keys of an operator and a watcher a head can be anchored that the true log never had, and then the
/// true log extends it no more. The Council may then go on from an earlier head, with 14 days' notice; every head after
/// that one proves nothing any more. Nothing is deleted: the event of each head stays, and with it the breach.
interface ILedgerAnchor {
    /// @param size How many records the tree has.
    /// @param root Its RFC 6962 root.
    /// @param time The block time at which it was anchored.
    struct Head {
        uint64 size;
        uint64 time;
        bytes32 root;
    }

    /// @notice From which earlier head the log goes on, and by which act.
    /// @param time When this was written, so that the same head may be named again another time.
    struct Resumption {
        uint64 time;
        uint64 headSize;
        uint64 headTime;
        bytes32 root;
        bytes32 act;
    }

    event Anchored(uint64 indexed size, bytes32 root, uint64 time);
    event ResumptionAnnounced(bytes32 indexed resumptionHash, uint64 headSize, uint64 headTime, bytes32 act, uint64 from);
    event Resumed(bytes32 indexed resumptionHash, uint64 headSize, uint64 headTime);

    error NotSeated(bytes32 role, address holder);
    error SizeNotGrowing(uint256 anchored, uint256 offered);
    error SizeTooLarge(uint256 most, uint256 offered);
    error TimeTooLarge(uint256 most, uint256 offered);
    error RootIsZero(uint256 size);
    error ProofNotEmpty(uint256 allowed, uint256 given);
    error NotConsistent(uint256 anchored, uint256 offered);
    error SignatureExpired(uint256 validUntil, uint256 time);
    error UnknownHead(uint256 newest, uint64 asked, uint64 time);
    error NotIncluded(uint64 index, uint64 size);
    error HeadIsVoid(uint64 size, uint64 time, uint64 resumedTime);
    error RootDiffers(bytes32 anchored, bytes32 named);
    error ActMissing(bytes32 resumptionHash);
    error NotEarlier(uint64 newestTime, uint64 namedTime);
    error AlreadyAnnounced(bytes32 resumptionHash, uint64 from);
    error NotAnnounced(bytes32 resumptionHash);
    error NoticeNotOver(uint64 from, uint256 time);

    /// @notice Anchor a head that extends the newest one; the first needs no proof. The sender is an operator.
    /// @param validUntil The deadline of the watcher's signature.
    /// @param r The compact signature (EIP-2098), with vs, over Head(uint64 size,bytes32 root,uint64 validUntil) in the
    /// Council's domain, by a seat of the role watcher: somebody else has fetched and replayed what is anchored (LEAKS 02).
    function append(uint256 size, bytes32 root, bytes32[] calldata proof, uint256 validUntil, bytes32 r, bytes32 vs)
        external;

    /// @notice Announce that the log goes on from an earlier head: the Council's quorum signs the Resumption like a record,
    /// Approve(Resumption record,uint64 validUntil). It can happen 14 days later.
    function announceResumption(Resumption calldata asked, Signature[] calldata approvals) external;

    /// @notice Go on from an earlier head, once its notice is over. The same quorum is asked again, so that who takes a
    /// signature back in time stops it. Heads after the named one prove nothing from now on, in whatever second of this.
    function resume(Resumption calldata asked, Signature[] calldata approvals) external;

    /// @notice The newest head; all zero before the first.
    function head() external view returns (Head memory);

    /// @notice The root of the head of exactly this size that was anchored in this second; refused where there is none,
    /// or where a resumption left it out. The event Anchored says the second.
    function rootAt(uint64 size, uint64 time) external view returns (bytes32);

    /// @notice Refuse unless the tree of an anchored head has this record at this index.
    /// @param headTime The second in which that head was anchored; another second names no head.
    function checkIncluded(
        bytes calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof
    ) external view;
}
