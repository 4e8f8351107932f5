// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {Spending} from "./Spending.sol";
import {vm} from "./Vm.sol";

/// @notice Money that goes back. Each test starts from a refund that is payable now, and breaks one thing.
contract RefundTest is Spending {
    uint128 internal constant RECEIVED = 900;

    address internal payer = vm.addr(1_004);
    bytes32 internal ruleHash;

    function setUp() public override {
        super.setUp();
        bytes memory rule =
            abi.encode(Records.REVENUE_RULE, Records.RevenueRule(START, "fee", Names.RETAINED, 10_000, START, ACT));
        enact(rule);
        ruleHash = keccak256(rule);
    }

    function test_a_refund_goes_to_where_the_payer_said_with_the_authority_alone() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.auditorApprovals = new Signature[](0);
        treasury.refund(asked);
        same(token.balanceOf(payer), 500);
        same(treasury.refunded(asked.refund.receiptHash), 500);
        _refused(asked, abi.encodeWithSelector(ITreasury.AlreadyPaid.selector, _hash(asked.refund)));
    }

    function test_a_refund_is_told() external {
        ITreasury.Refunding memory asked = _due(500);
        vm.expectEmit(address(treasury));
        emit ITreasury.Refunded(_hash(asked.refund), asked.refund.receiptHash, payer, address(token), 500);
        treasury.refund(asked);
    }

    function test_leak_12_refunds_never_exceed_their_receipt() external {
        treasury.refund(_due(500));
        _refused(_due(401), abi.encodeWithSelector(ITreasury.AboveReceipt.selector, 900, 901));
        treasury.refund(_due(400));
        same(token.balanceOf(payer), 900);
    }

    function test_leak_12_a_refund_elsewhere_needs_the_auditor_too() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.refund.to = bytes32(uint256(uint160(builder)));
        _sign(asked);
        asked.auditorApprovals = new Signature[](0);
        _refused(asked, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUDITOR, 1, 0));
        _sign(asked);
        treasury.refund(asked);
        same(token.balanceOf(builder), 500);
    }

    function test_leak_12_where_nobody_said_or_no_rule_stands_behind_the_receipt_the_auditor_signs() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.receipt.refundTo = 0;
        _relink(asked);
        asked.auditorApprovals = new Signature[](0);
        _refused(asked, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUDITOR, 1, 0));
        asked = _due(500);
        asked.receipt.authority = keccak256("no rule");
        _relink(asked);
        asked.auditorApprovals = new Signature[](0);
        _refused(asked, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUDITOR, 1, 0));
        asked.receipt.authority = 0;
        asked.receipt.purpose = 0;
        _relink(asked);
        asked.auditorApprovals = new Signature[](0);
        _refused(asked, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUDITOR, 1, 0));
        asked = _due(500);
        asked.receipt.purpose = "another";
        _relink(asked);
        asked.auditorApprovals = new Signature[](0);
        _refused(asked, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUDITOR, 1, 0));
        _relink(asked);
        treasury.refund(asked);
    }

    function test_a_refund_needs_the_authority() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.authorityApprovals = asked.auditorApprovals;
        _refused(asked, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.AUTHORITY, vm.addr(AUDITOR)));
    }

    function test_leak_12_what_never_came_is_not_refunded() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.receipt.amount = 10_000;
        _refused(
            asked,
            abi.encodeWithSelector(ITreasury.ReceiptDiffers.selector, asked.refund.receiptHash, _hash(asked.receipt))
        );
        asked.refund.receiptHash = _hash(asked.receipt);
        _sign(asked);
        _refused(
            asked, abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, asked.receiptIndex, asked.headSize)
        );
    }

    function test_a_refund_is_in_the_ledger_and_waits_for_its_delay() external {
        ITreasury.Refunding memory asked = _due(500);
        uint256 due = asked.headTime + 1 days;
        vm.warp(due - 1);
        _refused(asked, abi.encodeWithSelector(ITreasury.OrderTooEarly.selector, due, due - 1));
        vm.warp(due);
        asked.refund.amount = 501;
        _refused(asked, abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, asked.index, asked.headSize));
        asked.refund.amount = 500;
        treasury.refund(asked);
    }

    function test_an_auditor_stops_a_refund() external {
        ITreasury.Refunding memory asked = _due(500);
        uint256 until = block.timestamp + 30 days;
        vm.prank(vm.addr(AUDITOR));
        treasury.stop(_hash(asked.refund));
        _refused(asked, abi.encodeWithSelector(ITreasury.OrderStopped.selector, until, block.timestamp));
        vm.warp(until);
        treasury.refund(asked);
    }

    function test_a_refund_of_nothing_or_without_a_document_is_refused() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.refund.amount = 0;
        _sign(asked);
        _refused(asked, abi.encodeWithSelector(ITreasury.AmountIsZero.selector, _hash(asked.refund)));
        asked.refund.amount = 1;
        asked.refund.document = 0;
        _sign(asked);
        _refused(asked, abi.encodeWithSelector(ITreasury.DocumentMissing.selector, _hash(asked.refund)));
    }

    function test_a_refund_is_of_what_this_treasury_received() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.receipt.debit = "builder";
        _relink(asked);
        _refused(
            asked,
            abi.encodeWithSelector(
                ITreasury.NotThisTreasury.selector, bytes32("builder"), bytes32(uint256(uint160(builder)))
            )
        );
        asked = _due(500);
        asked.receipt.asset = "HOST";
        _relink(asked);
        _refused(
            asked, abi.encodeWithSelector(ITreasury.AssetDiffers.selector, bytes32("HOST"), bytes32("TKZT"))
        );
    }

    function test_a_refund_goes_to_an_address_that_is_nobodys_of_the_city() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.refund.to = 0;
        _sign(asked);
        _refused(asked, abi.encodeWithSelector(ITreasury.NotAnAddress.selector, 0));
        asked.refund.to = bytes32(uint256(uint160(payer)) + 2 ** 160);
        _sign(asked);
        _refused(asked, abi.encodeWithSelector(ITreasury.NotAnAddress.selector, asked.refund.to));
        asked.refund.to = bytes32(uint256(uint160(address(treasury))));
        _sign(asked);
        _refused(asked, abi.encodeWithSelector(ITreasury.ReceiverIsContract.selector, address(treasury)));
    }

    function test_nothing_is_refunded_to_the_republic_before_the_end_of_retention() external {
        ITreasury.Refunding memory asked = _due(500);
        asked.refund.to = bytes32(uint256(uint160(republic)));
        _sign(asked);
        _refused(
            asked, abi.encodeWithSelector(ITreasury.BeforeRetentionEnd.selector, block.timestamp, RETENTION_END)
        );
        vm.warp(RETENTION_END);
        treasury.refund(asked);
        same(token.balanceOf(republic), 500);
    }

    // --- in short ---

    function _due(uint128 amount) private returns (ITreasury.Refunding memory asked) {
        bytes32 to = bytes32(uint256(uint160(payer)));
        asked.receipt = Records.Transfer(
            START, keccak256("receipt"), "t-tkzt", "revenue", "TKZT", RECEIVED, "fee", ruleHash, keccak256("log"), to
        );
        asked.refund = Records.Refund(START, bytes32(uint256(++number)), 0, amount, to, ACT);
        _relink(asked);
    }

    function _relink(ITreasury.Refunding memory asked) private {
        asked.refund.receiptHash = _hash(asked.receipt);
        asked.receiptIndex = add(abi.encode(Records.TRANSFER, asked.receipt));
        _sign(asked);
    }

    /// @dev Sign by Authority and Auditor, record, anchor, and wait for the delay.
    function _sign(ITreasury.Refunding memory asked) private {
        bytes memory record = abi.encode(Records.REFUND, asked.refund);
        asked.authorityApprovals = _approvals(AUTHORITY, Records.APPROVE_REFUND, record);
        asked.auditorApprovals = _approvals(AUDITOR, Records.APPROVE_REFUND, record);
        asked.index = add(record);
        publish();
        (asked.headSize, asked.headTime) = (anchor.head().size, anchor.head().time);
        asked.proof = path(asked.index);
        asked.receiptProof = path(asked.receiptIndex);
        vm.warp(block.timestamp + 1 days);
    }

    function _refused(ITreasury.Refunding memory asked, bytes memory refusal) private {
        vm.expectRevert(refusal);
        treasury.refund(asked);
    }

    function _hash(Records.Transfer memory record) private pure returns (bytes32) {
        return keccak256(abi.encode(Records.TRANSFER, record));
    }

    function _hash(Records.Refund memory record) private pure returns (bytes32) {
        return keccak256(abi.encode(Records.REFUND, record));
    }
}
