// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {ICouncil} from "./interfaces/ICouncil.sol";
import {ILedgerAnchor} from "./interfaces/ILedgerAnchor.sol";
import {ITreasury} from "./interfaces/ITreasury.sol";
import {IWatchdog} from "./interfaces/IWatchdog.sol";
import {Money} from "./Money.sol";
import {Names} from "./Names.sol";
import {Records, Signature} from "./Records.sol";

/// @title Treasury
/// @notice See ITreasury. The same rules as ledger/rules.py, O1 to O9, C7 to C9, F1 and G7, as far as one order or refund
/// shows them: that the milestones add up (O8) is for the auditor to see.
contract Treasury is ITreasury, ReentrancyGuard {
    uint64 internal constant STOP_LASTS = 30 days;
    uint256 internal constant WHOLE = 10_000;

    /// @dev What was paid on a commitment on one day of UTC.
    struct Day {
        uint64 day;
        uint128 amount;
    }

    ICouncil public immutable council;
    IWatchdog public immutable watchdog;
    ILedgerAnchor public immutable anchor;
    uint64 public immutable retentionEnd;

    mapping(bytes32 recordHash => uint64) public stoppedUntil;
    mapping(bytes32 recordHash => bool) public isPaid;
    mapping(bytes32 milestoneHash => bool) public isMilestonePaid;
    mapping(bytes32 recordHash => uint256) public paid;
    mapping(address payee => mapping(address token => uint256)) public credit;
    mapping(address token => uint256) public credited;
    mapping(bytes32 receiptHash => uint256) public refunded;
    mapping(bytes32 commitmentHash => uint64) public disputedAt;
    mapping(bytes32 commitmentHash => bool) public isEnded;

    mapping(bytes32 commitmentHash => Day) private _days;
    // A dispute or a resolution counts once.
    mapping(bytes32 recordHash => bool) private _taken;

    constructor(ICouncil council_, IWatchdog watchdog_) {
        council = council_;
        watchdog = watchdog_;
        // Asked once, and not passed in: two contracts cannot be told different ends.
        anchor = council_.anchor();
        retentionEnd = council_.retentionEnd();
    }

    /// @notice The coin comes from PaymentRouter, or from anybody.
    receive() external payable {}

    /// @inheritdoc ITreasury
    function execute(Execution calldata execution) external nonReentrant {
        Records.Order calldata order = execution.order;
        bytes32 orderHash = _checkOrder(execution);
        bytes32 milestoneHash = _checkWork(execution);
        ICouncil.Allocation memory allocation = council.allocation(order.allocationHash);
        if (allocation.amount == 0) revert AllocationNotEnacted(order.allocationHash);
        address token = _checkAccount(order.account, allocation.asset);
        address payee = _checkPayee(order.payee, allocation.asset);

        isPaid[orderHash] = true;
        isMilestonePaid[milestoneHash] = true;
        uint256 total = paid[order.commitmentHash] += order.amount;
        if (total > execution.commitment.amount) revert AboveCommitment(execution.commitment.amount, total);
        total = paid[order.allocationHash] += order.amount;
        if (total > allocation.amount) revert AboveAllocation(allocation.amount, total);
        _countToday(order.commitmentHash, execution.commitment.amount, order.amount);
        emit Executed(orderHash, milestoneHash, payee, token, order.amount);

        _pay(payee, token, order.amount);
    }

    /// @inheritdoc ITreasury
    function refund(Refunding calldata asked) external nonReentrant {
        Records.Transfer calldata receipt = asked.receipt;
        Records.Refund calldata record = asked.refund;
        (bytes32 refundHash, bytes32 receiptHash) = _checkRefund(asked);
        address token = _checkAccount(receipt.debit, receipt.asset);
        address to = _checkReceiver(record.to);

        isPaid[refundHash] = true;
        uint256 total = refunded[receiptHash] += record.amount;
        if (total > receipt.amount) revert AboveReceipt(receipt.amount, total);
        emit Refunded(refundHash, receiptHash, to, token, record.amount);

        _pay(to, token, record.amount);
    }

    /// @inheritdoc ITreasury
    function stop(bytes32 recordHash) external {
        if (!council.seated(Names.AUDITOR, msg.sender)) revert NotSeated(Names.AUDITOR, msg.sender);
        if (isPaid[recordHash]) revert AlreadyPaid(recordHash);
        if (stoppedUntil[recordHash] != 0) revert AlreadyStopped(recordHash, stoppedUntil[recordHash]);
        uint64 until = uint64(block.timestamp) + STOP_LASTS;
        stoppedUntil[recordHash] = until;
        emit Stopped(recordHash, msg.sender, until);
    }

    /// @inheritdoc ITreasury
    function dispute(
        Records.Dispute calldata record,
        Records.Commitment calldata commitment,
        Signature calldata approval
    ) external {
        bytes32 recordHash = Records.hash(record);
        bytes32 commitmentHash = Records.hash(commitment);
        if (commitmentHash != record.commitmentHash) revert CommitmentDiffers(record.commitmentHash, commitmentHash);
        if (record.document == 0) revert DocumentMissing(recordHash);
        // A dispute of the future could never be settled: a resolution is not older than what it settles.
        if (record.time > block.timestamp) revert NotYet(record.time, block.timestamp);
        if (_taken[recordHash]) revert AlreadyTaken(recordHash);
        if (isEnded[commitmentHash]) revert CommitmentEnded(commitmentHash);
        if (disputedAt[commitmentHash] != 0) revert CommitmentDisputed(commitmentHash, disputedAt[commitmentHash]);
        if (approval.signer != record.by) revert NotTheDisputant(record.by, approval.signer);
        council.checkSigned(Records.APPROVE_DISPUTE, recordHash, approval);
        bool official = council.seated(Names.AUDITOR, record.by) || council.seated(Names.CERTIFIER, record.by);
        bytes32 owner = council.account(commitment.payee).owner;
        if (!official && owner != bytes32(uint256(uint160(record.by)))) revert NoPartyOf(commitmentHash, record.by);
        _taken[recordHash] = true;
        disputedAt[commitmentHash] = record.time;
        emit Disputed(commitmentHash, recordHash, record.by);
    }

    /// @inheritdoc ITreasury
    function resolve(
        Records.Resolution calldata record,
        uint64 index,
        uint64 headSize,
        uint64 headTime,
        bytes32[] calldata proof,
        Signature[] calldata approvals
    ) external {
        bytes memory encoded = Records.encode(record);
        bytes32 recordHash = keccak256(encoded);
        uint64 disputed = disputedAt[record.commitmentHash];
        if (disputed == 0) revert NotDisputed(record.commitmentHash);
        if (record.time < disputed) revert ResolutionOfAnother(disputed, record.time);
        if (record.outcome > 1) revert UnknownOutcome(1, record.outcome);
        if (record.document == 0) revert DocumentMissing(recordHash);
        if (_taken[recordHash]) revert AlreadyTaken(recordHash);
        anchor.checkIncluded(encoded, index, headSize, headTime, proof);
        council.checkApproved(Names.COUNCIL, Records.APPROVE_RESOLUTION, recordHash, approvals);
        _taken[recordHash] = true;
        disputedAt[record.commitmentHash] = 0;
        if (record.outcome == 1) isEnded[record.commitmentHash] = true;
        emit Resolved(record.commitmentHash, recordHash, record.outcome);
    }

    /// @inheritdoc ITreasury
    function pull(address payee, address token) external nonReentrant {
        uint256 amount = credit[payee][token];
        if (amount == 0) revert NothingCredited(payee, token);
        credit[payee][token] = 0;
        credited[token] -= amount;
        emit Pulled(payee, token, amount);
        if (!_send(payee, token, amount)) revert NotReceived(payee, token);
    }

    /// @dev The order is anchored long enough, signed by the Authority, not stopped and not paid.
    function _checkOrder(Execution calldata execution) private view returns (bytes32 orderHash) {
        Records.Order calldata order = execution.order;
        bytes memory record = Records.encode(order);
        orderHash = keccak256(record);
        if (order.amount == 0) revert AmountIsZero(orderHash);
        if (!Names.isName(order.order)) revert NotAName(order.order);
        _checkGoesOn(order.commitmentHash);
        anchor.checkIncluded(record, execution.index, execution.headSize, execution.headTime, execution.proof);
        _checkDue(orderHash, execution.headTime);
        council.checkApproved(Names.AUTHORITY, Records.APPROVE_ORDER, orderHash, execution.orderApprovals);
    }

    /// @dev Order, commitment, milestone and certificate are one chain, and the Certifier signed the last.
    function _checkWork(Execution calldata execution) private view returns (bytes32 milestoneHash) {
        Records.Order calldata order = execution.order;
        Records.Commitment calldata commitment = execution.commitment;
        Records.Certificate calldata certificate = execution.certificate;
        bytes32 found = Records.hash(commitment);
        if (found != order.commitmentHash) revert CommitmentDiffers(order.commitmentHash, found);
        if (commitment.allocationHash != order.allocationHash) {
            revert AllocationDiffers(order.allocationHash, commitment.allocationHash);
        }
        if (commitment.payee != order.payee) revert PayeeDiffers(commitment.payee, order.payee);
        found = Records.hash(certificate);
        if (found != order.certificateHash) revert CertificateDiffers(order.certificateHash, found);
        milestoneHash = Records.hash(execution.milestone);
        if (certificate.milestoneHash != milestoneHash) {
            revert MilestoneDiffers(certificate.milestoneHash, milestoneHash);
        }
        if (execution.milestone.commitmentHash != order.commitmentHash) {
            revert MilestoneOfAnother(order.commitmentHash, execution.milestone.commitmentHash);
        }
        if (isMilestonePaid[milestoneHash]) revert MilestonePaid(milestoneHash);
        if (certificate.accepted != 1) revert NotAccepted(1, certificate.accepted);
        if (certificate.amount != order.amount) revert AmountNotCertified(certificate.amount, order.amount);
        if (order.amount > execution.milestone.amount) revert AboveMilestone(execution.milestone.amount, order.amount);
        council.checkApproved(Names.CERTIFIER, Records.APPROVE_CERTIFICATE, found, execution.certificateApprovals);
    }

    /// @dev Not paid, not stopped, and anchored long enough for an Auditor to have seen it.
    function _checkDue(bytes32 recordHash, uint64 headTime) private view {
        if (isPaid[recordHash]) revert AlreadyPaid(recordHash);
        if (block.timestamp < stoppedUntil[recordHash]) revert OrderStopped(stoppedUntil[recordHash], block.timestamp);
        uint256 payableFrom = headTime + council.parameter(Names.ORDER_DELAY);
        if (block.timestamp < payableFrom) revert OrderTooEarly(payableFrom, block.timestamp);
    }

    /// @dev Neither disputed, nor ended, nor frozen.
    function _checkGoesOn(bytes32 commitmentHash) private view {
        uint64 disputed = disputedAt[commitmentHash];
        if (disputed != 0) revert CommitmentDisputed(commitmentHash, disputed);
        if (isEnded[commitmentHash]) revert CommitmentEnded(commitmentHash);
        watchdog.checkFree(commitmentHash);
    }

    /// @dev The first order of a day goes, and others as long as the day stays inside its part of the commitment (LEAKS 17).
    function _countToday(bytes32 commitmentHash, uint256 committed, uint128 amount) private {
        Day memory today = _days[commitmentHash];
        uint64 day = uint64(block.timestamp / 1 days);
        if (today.day != day) {
            today = Day(day, amount);
        } else {
            today.amount += amount;
            uint256 most = committed * council.parameter(Names.COMMITMENT_DAY_CAP) / WHOLE;
            if (today.amount > most) revert AboveDay(most, today.amount);
        }
        _days[commitmentHash] = today;
    }

    /// @dev Refund and receipt are anchored, name each other, and those signed who must: the Authority, and the Auditor too
    /// where the payer did not fix beforehand where money may go back to, or where no revenue rule says what was received.
    function _checkRefund(Refunding calldata asked) private view returns (bytes32 refundHash, bytes32 receiptHash) {
        Records.Transfer calldata receipt = asked.receipt;
        Records.Refund calldata record = asked.refund;
        bytes memory encoded = Records.encode(receipt);
        receiptHash = keccak256(encoded);
        if (receiptHash != record.receiptHash) revert ReceiptDiffers(record.receiptHash, receiptHash);
        anchor.checkIncluded(encoded, asked.receiptIndex, asked.headSize, asked.headTime, asked.receiptProof);
        encoded = Records.encode(record);
        refundHash = keccak256(encoded);
        if (record.amount == 0) revert AmountIsZero(refundHash);
        if (record.document == 0) revert DocumentMissing(refundHash);
        anchor.checkIncluded(encoded, asked.index, asked.headSize, asked.headTime, asked.proof);
        _checkDue(refundHash, asked.headTime);
        watchdog.checkFree(0);
        council.checkApproved(Names.AUTHORITY, Records.APPROVE_REFUND, refundHash, asked.authorityApprovals);
        bool said = record.to == receipt.refundTo && receipt.refundTo != 0;
        bytes32 code = council.codeOf(receipt.authority);
        if (!said || code == 0 || code != receipt.purpose) {
            council.checkApproved(Names.AUDITOR, Records.APPROVE_REFUND, refundHash, asked.auditorApprovals);
        }
    }

    /// @dev Where a refund goes is an address, nothing of the city's, and not the republic's before its time (G7).
    function _checkReceiver(bytes32 word) private view returns (address to) {
        to = address(uint160(uint256(word)));
        if (word == 0 || bytes32(uint256(uint160(to))) != word) revert NotAnAddress(word);
        if (council.isContract(to)) revert ReceiverIsContract(to);
        if (council.isRepublic(to) && block.timestamp < retentionEnd) {
            revert BeforeRetentionEnd(block.timestamp, retentionEnd);
        }
    }

    /// @dev The account is this contract's, of the allocation's asset.
    function _checkAccount(bytes32 name, bytes32 assetName) private view returns (address token) {
        ICouncil.Account memory account = council.account(name);
        if (account.kind != Names.CHAIN || account.owner != bytes32(uint256(uint160(address(this))))) {
            revert NotThisTreasury(name, account.owner);
        }
        // The fund is RETAINED: the Council lets this contract own no other account.
        if (account.asset != assetName) revert AssetDiffers(assetName, account.asset);
        // An asset that may no longer be taken may still be spent, or money would be locked in by the calendar.
        return council.asset(assetName).token;
    }

    /// @dev The payee is registered, for long enough, for this asset and fund. That it is no seat and no contract of the
    /// city the Council sees to: neither can become a payee, nor a payee either of them.
    function _checkPayee(bytes32 name, bytes32 assetName) private view returns (address payee) {
        ICouncil.Account memory account = council.account(name);
        if (account.kind != Names.PAYEE && account.kind != Names.REPUBLIC) revert NotAPayee(name, account.kind);
        payee = address(uint160(uint256(account.owner)));
        // The owner decides and not the account: whoever is once known as the republic is so by any name (LEAKS 07).
        if (council.isRepublic(payee) && block.timestamp < retentionEnd) {
            revert BeforeRetentionEnd(block.timestamp, retentionEnd);
        }
        if (account.fund != Names.RETAINED) revert FundDiffers(Names.RETAINED, account.fund);
        if (account.asset != assetName) revert AssetDiffers(assetName, account.asset);
        uint256 payableFrom = account.enactedAt + council.parameter(Names.PAYEE_WAIT);
        if (block.timestamp < payableFrom) revert PayeeTooNew(payableFrom, block.timestamp);
    }

    function _pay(address payee, address token, uint256 amount) private {
        uint256 balance = Money.balanceOf(token, address(this));
        // What is owed to those who could not receive is theirs.
        uint256 owed = credited[token];
        if (balance < owed + amount) revert NotEnough(balance < owed ? 0 : balance - owed, amount);
        if (_send(payee, token, amount)) return;
        credit[payee][token] += amount;
        credited[token] = owed + amount;
        emit Credited(payee, token, amount);
    }

    /// @dev Balances say what happened, whatever the token answered: all of the amount moved, or nothing did.
    function _send(address payee, address token, uint256 amount) private returns (bool sent) {
        uint256 ours = Money.balanceOf(token, address(this));
        uint256 theirs = Money.balanceOf(token, payee);
        sent = Money.trySend(token, payee, amount);
        if (sent) (ours, theirs) = (ours - amount, theirs + amount);
        uint256 found = Money.balanceOf(token, address(this));
        if (found != ours) revert BalanceDiffers(address(this), ours, found);
        found = Money.balanceOf(token, payee);
        // A contract may send the coin on in the same call, so only tokens are asked after.
        if (token != Money.COIN && found != theirs) revert BalanceDiffers(payee, theirs, found);
    }
}
