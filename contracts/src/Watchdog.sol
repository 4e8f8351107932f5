// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "./interfaces/ICouncil.sol";
import {ILedgerAnchor} from "./interfaces/ILedgerAnchor.sol";
import {IWatchdog} from "./interfaces/IWatchdog.sol";
import {Kinds} from "./Kinds.sol";
import {Names} from "./Names.sol";
import {Records, Signature} from "./Records.sol";

/// @title Watchdog
/// @notice See IWatchdog. Rules are named as in ledger/rules.py.
contract Watchdog is IWatchdog {
    /// @dev How long an act may wait in the ledger before somebody brings it to the Council's register.
    uint256 internal constant REGISTER_WAITS = 14 days;
    bytes32 internal constant ALL = 0;
    uint8 internal constant FREEZES = 1;
    uint8 internal constant LIFTED = 2;

    ICouncil public immutable council;
    ILedgerAnchor public immutable anchor;

    mapping(bytes32 commitmentHash => uint256) public frozen;

    mapping(bytes32 ruleAndIndex => uint8) private _states;
    mapping(bytes32 ruleAndIndex => bytes32) private _commitments;

    constructor(ICouncil council_) {
        council = council_;
        anchor = council_.anchor();
    }

    /// @inheritdoc IWatchdog
    function reportOverspent(Head calldata head, SignedOrder[] calldata orders) external {
        if (orders.length < 2) revert TooFewOrders(2, orders.length);
        bytes32 allocationHash = orders[0].order.allocationHash;
        uint256 total = 0;
        for (uint256 i = 0; i < orders.length; ++i) {
            SignedOrder calldata each = orders[i];
            if (each.order.allocationHash != allocationHash) {
                revert AnotherAllocation(allocationHash, each.order.allocationHash);
            }
            // Ascending, so that no order counts twice.
            if (i > 0 && each.index <= orders[i - 1].index) revert OrdersNotAscending(orders[i - 1].index, each.index);
            _checkOrder(head, each);
            total += each.order.amount;
        }
        uint256 allotted = council.allocation(allocationHash).amount;
        if (allotted == 0) revert NoBreach(allotted, total);
        if (total <= allotted) revert NoBreach(allotted, total);
        _freeze("O7", orders[orders.length - 1]);
    }

    /// @inheritdoc IWatchdog
    function reportPayee(Head calldata head, SignedOrder calldata order, Records.Commitment calldata commitment)
        external
    {
        bytes32 found = Records.hash(commitment);
        if (found != order.order.commitmentHash) revert CommitmentDiffers(order.order.commitmentHash, found);
        if (order.order.payee == commitment.payee) revert NoBreachWord(commitment.payee, order.order.payee);
        _checkOrder(head, order);
        _freeze("O3", order);
    }

    /// @inheritdoc IWatchdog
    function reportUnregistered(Head calldata head, SignedOrder calldata order) external {
        uint256 allotted = council.allocation(order.order.allocationHash).amount;
        if (allotted != 0) revert NoBreach(allotted, order.order.amount);
        uint256 provableFrom = head.time + REGISTER_WAITS;
        if (block.timestamp < provableFrom) revert RegisterStillOpen(provableFrom, block.timestamp);
        _checkOrder(head, order);
        _freeze("O1", order);
    }

    /// @inheritdoc IWatchdog
    function reportTwice(
        Head calldata head,
        SignedOrder calldata earlier,
        SignedOrder calldata later,
        Records.Certificate calldata earlierCertificate,
        Records.Certificate calldata laterCertificate
    ) external {
        if (later.index <= earlier.index) revert OrdersNotAscending(earlier.index, later.index);
        _checkCertificate(earlier.order, earlierCertificate);
        _checkCertificate(later.order, laterCertificate);
        if (earlierCertificate.milestoneHash != laterCertificate.milestoneHash) {
            revert NoBreachWord(earlierCertificate.milestoneHash, laterCertificate.milestoneHash);
        }
        _checkOrder(head, earlier);
        _checkOrder(head, later);
        _freeze("O6", later);
    }

    /// @inheritdoc IWatchdog
    function reportRefused(Head calldata head, SignedOrder calldata order, Records.Certificate calldata certificate)
        external
    {
        _checkCertificate(order.order, certificate);
        if (certificate.accepted == 1) revert NoBreach(1, certificate.accepted);
        _checkOrder(head, order);
        _freeze("O2", order);
    }

    /// @inheritdoc IWatchdog
    function reportRepublic(Head calldata head, Proved calldata transfer, SignedOrder calldata order) external {
        _checkProved(head, transfer);
        _checkLength(transfer.record, 11);
        (bytes32 kind, Records.Transfer memory moved) = abi.decode(transfer.record, (bytes32, Records.Transfer));
        if (kind != Records.TRANSFER) revert AnotherKind(Records.TRANSFER, kind);
        bytes32 orderHash = _checkOrder(head, order);
        if (moved.authority != orderHash) revert TransferOfAnother(orderHash, moved.authority);
        address owner = address(uint160(uint256(council.account(order.order.payee).owner)));
        if (!council.isRepublic(owner)) revert NoBreachWord(Names.REPUBLIC, order.order.payee);
        uint64 end = council.retentionEnd();
        if (moved.time >= end) revert NoBreach(end, moved.time);
        _freeze("G7", transfer.index, order.order.commitmentHash);
    }

    /// @inheritdoc IWatchdog
    function reportTime(Head calldata head, Proved calldata earlier, Proved calldata later) external {
        if (later.index <= earlier.index) revert OrdersNotAscending(earlier.index, later.index);
        (uint256 before, uint256 time) = (uint256(_word(earlier.record, 1)), uint256(_word(later.record, 1)));
        if (time >= before) revert NoBreach(before, time);
        _checkProved(head, earlier);
        _checkProved(head, later);
        _freeze("H2", later.index, ALL);
    }

    /// @inheritdoc IWatchdog
    function reportKind(Head calldata head, Proved calldata record) external {
        bytes32 kind = _word(record.record, 0);
        if (Kinds.isKind(kind)) revert NoBreachWord(kind, kind);
        _checkProved(head, record);
        _freeze("E1", record.index, ALL);
    }

    /// @inheritdoc IWatchdog
    function lift(
        Head calldata head,
        Proved calldata acknowledgement,
        Signature[] calldata councilApprovals,
        Signature[] calldata auditorApprovals
    ) external {
        _checkLength(acknowledgement.record, 5);
        (bytes32 kind, Records.Acknowledgement memory record) =
            abi.decode(acknowledgement.record, (bytes32, Records.Acknowledgement));
        if (kind != Records.ACKNOWLEDGEMENT) revert AnotherKind(Records.ACKNOWLEDGEMENT, kind);
        bytes32 key = _key(record.rule, record.index);
        if (_states[key] != FREEZES) revert NoSuchBreach(record.rule, record.index);
        bytes32 hash = keccak256(acknowledgement.record);
        if (record.act == 0) revert ActMissing(hash);
        _checkProved(head, acknowledgement);
        council.checkApproved(Names.COUNCIL, Records.APPROVE_ACKNOWLEDGEMENT, hash, councilApprovals);
        council.checkApproved(Names.AUDITOR, Records.APPROVE_ACKNOWLEDGEMENT, hash, auditorApprovals);
        _states[key] = LIFTED;
        --frozen[_commitments[key]];
        emit Lifted(record.rule, record.index, _commitments[key]);
    }

    /// @inheritdoc IWatchdog
    function checkFree(bytes32 commitmentHash) external view {
        (uint256 breaches, uint256 breachesOfTheLog) = (frozen[commitmentHash], frozen[ALL]);
        if (breaches != 0 || breachesOfTheLog != 0) revert Frozen(commitmentHash, breaches, breachesOfTheLog);
    }

    /// @inheritdoc IWatchdog
    function breachState(bytes32 rule, uint64 index) external view returns (uint8) {
        return _states[_key(rule, index)];
    }

    function _freeze(bytes32 rule, SignedOrder calldata order) private {
        _freeze(rule, order.index, order.order.commitmentHash);
    }

    /// @dev Each once: what was lifted is an exception for ever.
    function _freeze(bytes32 rule, uint64 index, bytes32 commitmentHash) private {
        bytes32 key = _key(rule, index);
        if (_states[key] != 0) revert AlreadyBreached(rule, index);
        _states[key] = FREEZES;
        _commitments[key] = commitmentHash;
        ++frozen[commitmentHash];
        emit Breached(rule, index, commitmentHash);
    }

    function _checkProved(Head calldata head, Proved calldata proved) private view {
        anchor.checkIncluded(proved.record, proved.index, head.size, head.time, proved.proof);
    }

    /// @dev The order is in the ledger, and a quorum of those who ever held the Authority's seats signed it.
    function _checkOrder(Head calldata head, SignedOrder calldata signed) private view returns (bytes32 orderHash) {
        bytes memory record = Records.encode(signed.order);
        anchor.checkIncluded(record, signed.index, head.size, head.time, signed.proof);
        orderHash = keccak256(record);
        uint256 needed = council.required(Names.AUTHORITY);
        if (signed.approvals.length < needed) revert NoQuorum(Names.AUTHORITY, needed, signed.approvals.length);
        address previous = address(0);
        for (uint256 i = 0; i < signed.approvals.length; ++i) {
            Signature calldata approval = signed.approvals[i];
            if (approval.signer <= previous) revert SignersNotAscending(previous, approval.signer);
            previous = approval.signer;
            if (council.roleOf(previous) != Names.AUTHORITY) revert NeverSeated(Names.AUTHORITY, previous);
            bytes32 structHash = keccak256(abi.encode(Records.APPROVE_ORDER, orderHash, approval.validUntil));
            address recovered = council.recover(structHash, approval.v, approval.r, approval.s);
            if (recovered != previous) revert WrongSigner(previous, recovered);
        }
    }

    function _checkCertificate(Records.Order calldata order, Records.Certificate calldata certificate) private pure {
        bytes32 found = Records.hash(certificate);
        if (found != order.certificateHash) revert CertificateDiffers(order.certificateHash, found);
    }

    /// @dev abi.decode does not mind what follows the last member; the ledger does (E1).
    function _checkLength(bytes calldata record, uint256 words) private pure {
        if (record.length != 32 * words) revert WrongLength(32 * words, record.length);
    }

    /// @dev Zero where the record is too short for it.
    function _word(bytes calldata record, uint256 number) private pure returns (bytes32) {
        return record.length < 32 * (number + 1) ? bytes32(0) : bytes32(record[32 * number:]);
    }

    function _key(bytes32 rule, uint64 index) private pure returns (bytes32) {
        return keccak256(abi.encode(rule, index));
    }
}
