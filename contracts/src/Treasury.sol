// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {ICouncil} from "./interfaces/ICouncil.sol";
import {ILedgerAnchor} from "./interfaces/ILedgerAnchor.sol";
import {ITreasury} from "./interfaces/ITreasury.sol";
import {Money} from "./Money.sol";
import {Names} from "./Names.sol";
import {Records} from "./Records.sol";

/// @title Treasury
/// @notice See ITreasury. The same rules as ledger/rules.py, O1 to O9 and G7, as far as one order shows them: that the
/// milestones add up (O8) is for the auditor to see.
contract Treasury is ITreasury, ReentrancyGuard {
    uint64 internal constant STOP_LASTS = 30 days;

    ICouncil public immutable council;
    ILedgerAnchor public immutable anchor;
    uint64 public immutable retentionEnd;

    mapping(bytes32 orderHash => uint64) public stoppedUntil;
    mapping(bytes32 orderHash => bool) public isOrderPaid;
    mapping(bytes32 milestoneHash => bool) public isMilestonePaid;
    mapping(bytes32 recordHash => uint256) public paid;
    mapping(address payee => mapping(address token => uint256)) public credit;
    mapping(address token => uint256) public credited;

    constructor(ICouncil council_) {
        council = council_;
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

        isOrderPaid[orderHash] = true;
        isMilestonePaid[milestoneHash] = true;
        uint256 total = paid[order.commitmentHash] += order.amount;
        if (total > execution.commitment.amount) revert AboveCommitment(execution.commitment.amount, total);
        total = paid[order.allocationHash] += order.amount;
        if (total > allocation.amount) revert AboveAllocation(allocation.amount, total);
        emit Executed(orderHash, milestoneHash, payee, token, order.amount);

        _pay(payee, token, order.amount);
    }

    /// @inheritdoc ITreasury
    function stop(bytes32 orderHash) external {
        if (!council.seated(Names.AUDITOR, msg.sender)) revert NotSeated(Names.AUDITOR, msg.sender);
        if (isOrderPaid[orderHash]) revert OrderPaid(orderHash);
        if (stoppedUntil[orderHash] != 0) revert AlreadyStopped(orderHash, stoppedUntil[orderHash]);
        uint64 until = uint64(block.timestamp) + STOP_LASTS;
        stoppedUntil[orderHash] = until;
        emit Stopped(orderHash, msg.sender, until);
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
        if (isOrderPaid[orderHash]) revert OrderPaid(orderHash);
        if (order.amount == 0) revert AmountIsZero(orderHash);
        if (!Names.isName(order.order)) revert NotAName(order.order);
        if (block.timestamp < stoppedUntil[orderHash]) revert OrderStopped(stoppedUntil[orderHash], block.timestamp);
        anchor.checkIncluded(record, execution.index, execution.headSize, execution.headTime, execution.proof);
        uint256 payableFrom = execution.headTime + council.parameter(Names.ORDER_DELAY);
        if (block.timestamp < payableFrom) revert OrderTooEarly(payableFrom, block.timestamp);
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

    /// @dev The account is this contract's, of the allocation's asset.
    function _checkAccount(bytes32 name, bytes32 assetName) private view returns (address token) {
        ICouncil.Account memory account = council.account(name);
        if (account.kind != Names.CHAIN || account.owner != bytes32(uint256(uint160(address(this))))) {
            revert NotThisTreasury(name, account.owner);
        }
        if (account.fund != Names.RETAINED) revert FundDiffers(Names.RETAINED, account.fund);
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
