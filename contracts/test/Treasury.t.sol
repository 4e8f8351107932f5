// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {Money} from "../src/Money.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {CallsBack, Forwarding, HostileToken, Silent} from "./HostileTokens.sol";
import {Treasury} from "../src/Treasury.sol";
import {Spending} from "./Spending.sol";
import {vm} from "./Vm.sol";

/// @notice Each test starts from an order that is payable now, and breaks one thing.
contract TreasuryTest is Spending {
    // --- the way it should be ---

    function test_ff55_an_order_is_paid_once() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        treasury.execute(execution);
        same(token.balanceOf(builder), AMOUNT);
        same(token.balanceOf(address(treasury)), 10_000 - AMOUNT);
        same(treasury.paid(execution.order.commitmentHash), AMOUNT);
        same(treasury.paid(execution.order.allocationHash), AMOUNT);
        _refused(execution, abi.encodeWithSelector(ITreasury.AlreadyPaid.selector, _hash(execution.order)));
    }

    function test_ff55_another_order_for_the_same_milestone_is_refused() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        treasury.execute(execution);
        execution.order.order = "again";
        _sign(execution);
        _refused(
            execution, abi.encodeWithSelector(ITreasury.MilestonePaid.selector, execution.certificate.milestoneHash)
        );
    }

    function test_an_orders_name_is_a_name() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.order.order = bytes32("a b");
        _sign(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.NotAName.selector, bytes32("a b")));
    }

    // --- the ledger and the delay ---

    function test_an_order_waits_for_its_delay_from_the_anchor_on() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        uint256 due = anchor.head().time + 1 days;
        vm.warp(due - 1);
        _refused(execution, abi.encodeWithSelector(ITreasury.OrderTooEarly.selector, due, due - 1));
        vm.warp(due);
        treasury.execute(execution);
    }

    function test_an_order_that_is_not_in_the_ledger_is_refused() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.order.order = "unheard-of";
        execution.orderApprovals =
            _approvals(AUTHORITY, Records.APPROVE_ORDER, abi.encode(Records.ORDER, execution.order));
        _refused(
            execution, abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, execution.index, execution.headSize)
        );
    }

    function test_an_auditor_stops_an_order_for_thirty_days_and_once() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        bytes32 orderHash = _hash(execution.order);
        vm.expectRevert(abi.encodeWithSelector(ITreasury.NotSeated.selector, Names.AUDITOR, address(this)));
        treasury.stop(orderHash);
        uint256 until = block.timestamp + 30 days;
        vm.prank(vm.addr(AUDITOR));
        treasury.stop(orderHash);
        vm.warp(until - 1);
        _refused(execution, abi.encodeWithSelector(ITreasury.OrderStopped.selector, until, until - 1));
        vm.prank(vm.addr(AUDITOR));
        vm.expectRevert(abi.encodeWithSelector(ITreasury.AlreadyStopped.selector, orderHash, until));
        treasury.stop(orderHash);
        vm.warp(until);
        treasury.execute(execution);
        vm.prank(vm.addr(AUDITOR));
        vm.expectRevert(abi.encodeWithSelector(ITreasury.AlreadyPaid.selector, orderHash));
        treasury.stop(orderHash);
    }

    // --- who signed ---

    function test_leak_01_an_order_needs_the_authority_and_a_certificate_the_certifier() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.orderApprovals =
            _approvals(CERTIFIER, Records.APPROVE_ORDER, abi.encode(Records.ORDER, execution.order));
        _refused(execution, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.AUTHORITY, vm.addr(CERTIFIER)));
        execution.orderApprovals = new Signature[](0);
        _refused(execution, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUTHORITY, 1, 0));
        _sign(execution);
        execution.certificateApprovals = new Signature[](0);
        _refused(execution, abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.CERTIFIER, 1, 0));
        execution.certificateApprovals =
            _approvals(AUTHORITY, Records.APPROVE_CERTIFICATE, abi.encode(Records.CERTIFICATE, execution.certificate));
        _refused(execution, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.CERTIFIER, vm.addr(AUTHORITY)));
    }

    function test_an_order_and_a_certificate_need_the_whole_quorum_of_their_role_each_seat_once_and_in_its_term()
        external
    {
        uint64 end = uint64(block.timestamp + 40 days);
        uint256[2] memory roles = [AUTHORITY, CERTIFIER];
        bytes32[2] memory names = [Names.AUTHORITY, Names.CERTIFIER];
        for (uint256 i = 0; i < 2; ++i) {
            Records.Seat memory second = seat(names[i], 100 + roles[i]);
            second.validTo = end;
            enact(abi.encode(Records.SEAT, second));
            enact(abi.encode(Records.QUORUM, Records.Quorum(START, names[i], 2, ACT)));
        }
        vm.warp(block.timestamp + 14 days);
        for (uint256 i = 0; i < 2; ++i) {
            ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
            (execution.orderApprovals, execution.certificateApprovals) =
                (_both(AUTHORITY, execution), _both(CERTIFIER, execution));
            Signature[] memory all_ = i == 0 ? execution.orderApprovals : execution.certificateApprovals;
            Signature[] memory one = new Signature[](1);
            one[0] = all_[0];
            _with(execution, i, one);
            _refused(execution, abi.encodeWithSelector(ICouncil.NoQuorum.selector, names[i], 2, 1));
            Signature[] memory twice = new Signature[](2);
            (twice[0], twice[1]) = (all_[0], all_[0]);
            _with(execution, i, twice);
            address signer = all_[0].signer;
            _refused(execution, abi.encodeWithSelector(ICouncil.SignersNotAscending.selector, signer, signer));
            _with(execution, i, all_);
            treasury.execute(execution);
        }
        // Who took a signature back counts no more, nor who sits no more.
        ITreasury.Execution memory last = _payable("TKZT", "t-tkzt", "builder");
        (last.orderApprovals, last.certificateApprovals) = (_both(AUTHORITY, last), _both(CERTIFIER, last));
        bytes32 certificateHash = _hash(last.certificate);
        vm.warp(end);
        _refused(
            last, abi.encodeWithSelector(ICouncil.NotSeated.selector, Names.AUTHORITY, vm.addr(100 + AUTHORITY))
        );
        vm.warp(end - 1);
        vm.prank(vm.addr(CERTIFIER));
        council.withdraw(certificateHash);
        _refused(
            last, abi.encodeWithSelector(ICouncil.SignatureWithdrawn.selector, certificateHash, vm.addr(CERTIFIER))
        );
    }

    function _both(uint256 role, ITreasury.Execution memory execution) private view returns (Signature[] memory) {
        uint256[] memory keys = new uint256[](2);
        (keys[0], keys[1]) = (role, 100 + role);
        if (role == AUTHORITY) {
            return approve(keys, Records.APPROVE_ORDER, abi.encode(Records.ORDER, execution.order), FOREVER);
        }
        bytes memory certificate = abi.encode(Records.CERTIFICATE, execution.certificate);
        return approve(keys, Records.APPROVE_CERTIFICATE, certificate, FOREVER);
    }

    function _with(ITreasury.Execution memory execution, uint256 which, Signature[] memory approvals) private pure {
        if (which == 0) execution.orderApprovals = approvals;
        else execution.certificateApprovals = approvals;
    }

    // --- the chain of records ---

    function test_the_parts_must_be_those_that_the_order_names() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.commitment.amount += 1;
        _refused(
            execution,
            abi.encodeWithSelector(
                ITreasury.CommitmentDiffers.selector, execution.order.commitmentHash, _hash(execution.commitment)
            )
        );
        execution.commitment.amount -= 1;
        execution.certificate.document = keccak256("another");
        _refused(
            execution,
            abi.encodeWithSelector(
                ITreasury.CertificateDiffers.selector, execution.order.certificateHash, _hash(execution.certificate)
            )
        );
        execution.certificate.document = ACT;
        execution.milestone.amount += 1;
        _refused(
            execution,
            abi.encodeWithSelector(
                ITreasury.MilestoneDiffers.selector, execution.certificate.milestoneHash, _hash(execution.milestone)
            )
        );
    }

    function test_an_order_pays_the_payee_and_the_allocation_of_its_commitment() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.order.payee = "republic";
        _sign(execution);
        _refused(
            execution, abi.encodeWithSelector(ITreasury.PayeeDiffers.selector, bytes32("builder"), bytes32("republic"))
        );
        execution.order.payee = "builder";
        bytes32 allocationHash = execution.order.allocationHash;
        execution.order.allocationHash = ACT;
        _sign(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AllocationDiffers.selector, ACT, allocationHash));
    }

    function test_a_milestone_of_another_commitment_is_refused() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.milestone.commitmentHash = ACT;
        _relink(execution);
        _refused(
            execution,
            abi.encodeWithSelector(ITreasury.MilestoneOfAnother.selector, execution.order.commitmentHash, ACT)
        );
    }

    function test_ff55_rejected_work_is_never_paid() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.certificate.accepted = 0;
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.NotAccepted.selector, 1, 0));
    }

    function test_ff55_one_unit_over_what_is_certified_milestone_commitment_or_allocation_is_refused() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.order.amount = AMOUNT + 1;
        _sign(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AmountNotCertified.selector, AMOUNT, AMOUNT + 1));
        execution.certificate.amount = AMOUNT + 1;
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AboveMilestone.selector, AMOUNT, AMOUNT + 1));
        execution.milestone.amount = COMMITTED + 1;
        execution.certificate.amount = COMMITTED + 1;
        execution.order.amount = COMMITTED + 1;
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AboveCommitment.selector, COMMITTED, COMMITTED + 1));
        execution.commitment.amount = ALLOTTED + 1;
        execution.order.commitmentHash = execution.milestone.commitmentHash = _hash(execution.commitment);
        execution.milestone.amount = execution.certificate.amount = execution.order.amount = ALLOTTED + 1;
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AboveAllocation.selector, ALLOTTED, ALLOTTED + 1));
        execution.milestone.amount = execution.certificate.amount = execution.order.amount = ALLOTTED;
        _relink(execution);
        treasury.execute(execution);
        same(token.balanceOf(builder), ALLOTTED);
    }

    function test_two_orders_together_stay_inside_the_commitment() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        treasury.execute(execution);
        execution.milestone.milestone = "second";
        execution.milestone.amount = execution.certificate.amount = execution.order.amount = COMMITTED - AMOUNT + 1;
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AboveCommitment.selector, COMMITTED, COMMITTED + 1));
        execution.milestone.amount = execution.certificate.amount = execution.order.amount = COMMITTED - AMOUNT;
        _relink(execution);
        treasury.execute(execution);
        same(token.balanceOf(builder), COMMITTED);
    }

    function test_ff56_an_order_of_nothing_is_refused() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.order.amount = execution.certificate.amount = 0;
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AmountIsZero.selector, _hash(execution.order)));
    }

    function test_an_allocation_that_the_council_never_made_is_worth_nothing() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        execution.commitment.allocationHash = execution.order.allocationHash = ACT;
        execution.order.commitmentHash = execution.milestone.commitmentHash = _hash(execution.commitment);
        _relink(execution);
        _refused(execution, abi.encodeWithSelector(ITreasury.AllocationNotEnacted.selector, ACT));
    }

    // --- accounts ---

    function test_leak_23_the_account_is_of_this_treasury_and_of_the_allocations_asset() external {
        ITreasury.Execution memory execution = _payable("TKZT", "builder", "builder");
        _refused(
            execution,
            abi.encodeWithSelector(
                ITreasury.NotThisTreasury.selector, bytes32("builder"), bytes32(uint256(uint160(builder)))
            )
        );
        execution = _payable("TKZT", "t-host", "builder");
        _refused(execution, abi.encodeWithSelector(ITreasury.AssetDiffers.selector, bytes32("TKZT"), bytes32("HOST")));
        execution = _payable("TKZT", "t-tkzt", "h-builder");
        _refused(execution, abi.encodeWithSelector(ITreasury.AssetDiffers.selector, bytes32("TKZT"), bytes32("HOST")));
        execution = _payable("TKZT", "t-tkzt", "nobody");
        _refused(execution, abi.encodeWithSelector(ITreasury.NotAPayee.selector, bytes32("nobody"), bytes32(0)));
        execution = _payable("TKZT", "t-tkzt", "t-tkzt");
        _refused(execution, abi.encodeWithSelector(ITreasury.NotAPayee.selector, bytes32("t-tkzt"), Names.CHAIN));
    }

    function test_leak_23_another_treasury_of_the_same_council_pays_nothing() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        Treasury other = new Treasury(council, watchdog);
        token.mint(address(other), 10_000);
        bytes32 owner = bytes32(uint256(uint160(address(treasury))));
        vm.expectRevert(abi.encodeWithSelector(ITreasury.NotThisTreasury.selector, bytes32("t-tkzt"), owner));
        other.execute(execution);
        treasury.execute(execution);
    }

    function test_a_payee_may_send_the_coin_on_in_the_same_call() external {
        Forwarding forwarding = new Forwarding(payable(merchant));
        enactAccount("forwarding", "COIN", Names.PAYEE, address(forwarding));
        vm.warp(block.timestamp + 14 days);
        treasury.execute(_payable("COIN", "t-coin", "forwarding"));
        same(merchant.balance, AMOUNT);
        same(treasury.credit(address(forwarding), Money.COIN), 0);
    }

    function test_a_payee_of_another_fund_is_refused() external {
        Records.Account memory record = account("custody", "TKZT", Names.PAYEE, vm.addr(88));
        record.fund = "CUSTODY";
        enact(abi.encode(Records.ACCOUNT, record));
        vm.warp(block.timestamp + 14 days);
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "custody");
        _refused(execution, abi.encodeWithSelector(ITreasury.FundDiffers.selector, Names.RETAINED, bytes32("CUSTODY")));
    }

    function test_leak_06_a_payee_waits_fourteen_days() external {
        enactAccount("newcomer", "TKZT", Names.PAYEE, vm.addr(88));
        uint256 due = block.timestamp + 14 days;
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "newcomer");
        vm.warp(due - 1);
        _refused(execution, abi.encodeWithSelector(ITreasury.PayeeTooNew.selector, due, due - 1));
        vm.warp(due);
        treasury.execute(execution);
    }

    function test_leak_07_a_payee_that_turned_out_to_be_the_republic_is_paid_no_more() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "builder");
        enactAccount("unmasked", "TKZT", Names.REPUBLIC, builder);
        _refused(
            execution, abi.encodeWithSelector(ITreasury.BeforeRetentionEnd.selector, block.timestamp, RETENTION_END)
        );
        vm.warp(RETENTION_END);
        treasury.execute(execution);
    }

    function test_leak_03_the_republic_is_paid_from_the_end_of_retention_by_the_chains_clock() external {
        ITreasury.Execution memory execution = _payable("TKZT", "t-tkzt", "republic");
        vm.warp(RETENTION_END - 1);
        _refused(
            execution, abi.encodeWithSelector(ITreasury.BeforeRetentionEnd.selector, RETENTION_END - 1, RETENTION_END)
        );
        vm.warp(RETENTION_END);
        treasury.execute(execution);
        execution = _payable("TKZT", "t-tkzt", "republic");
        vm.warp(RETENTION_END + 1 days + 1);
        treasury.execute(execution);
        same(token.balanceOf(republic), 2 * AMOUNT);
    }

    // --- moving the money ---

    function test_a_token_that_fails_credits_the_payee_who_pulls_later() external {
        hostile.deny(builder);
        ITreasury.Execution memory execution = _payable("HOST", "t-host", "h-builder");
        treasury.execute(execution);
        same(treasury.credit(builder, address(hostile)), AMOUNT);
        vm.expectRevert(abi.encodeWithSelector(ITreasury.NotReceived.selector, builder, address(hostile)));
        treasury.pull(builder, address(hostile));
        hostile.deny(address(0));
        treasury.pull(builder, address(hostile));
        same(hostile.balanceOf(builder), AMOUNT);
        same(treasury.credited(address(hostile)), 0);
        vm.expectRevert(abi.encodeWithSelector(ITreasury.NothingCredited.selector, builder, address(hostile)));
        treasury.pull(builder, address(hostile));
    }

    function test_a_payee_that_refuses_coin_is_credited_and_pulls_later() external {
        ITreasury.Execution memory execution = _payable("COIN", "t-coin", "closed");
        treasury.execute(execution);
        same(treasury.credit(address(closed), Money.COIN), AMOUNT);
        closed.set(true);
        treasury.pull(address(closed), Money.COIN);
        same(address(closed).balance, AMOUNT);
        same(address(treasury).balance, 10_000 - AMOUNT);
    }

    function test_what_is_credited_is_not_spent_again() external {
        ITreasury.Execution memory execution = _payable("COIN", "t-coin", "closed");
        treasury.execute(execution);
        execution = _payable("COIN", "t-coin", "closed");
        vm.deal(address(treasury), 2 * AMOUNT - 1);
        _refused(execution, abi.encodeWithSelector(ITreasury.NotEnough.selector, AMOUNT - 1, AMOUNT));
        vm.deal(address(treasury), 2 * AMOUNT);
        treasury.execute(execution);
        same(treasury.credited(Money.COIN), 2 * AMOUNT);
    }

    function test_ff56_a_token_that_answers_false_credits_and_one_that_lies_is_refused() external {
        hostile.set(HostileToken.Mode.ReturnsFalse);
        treasury.execute(_payable("HOST", "t-host", "h-builder"));
        same(treasury.credit(builder, address(hostile)), AMOUNT);
        uint256 ours = 10_000;
        ITreasury.Execution memory execution = _payable("HOST", "t-host", "h-builder");
        hostile.set(HostileToken.Mode.ReturnsFalseButMoves);
        _refused(
            execution, abi.encodeWithSelector(ITreasury.BalanceDiffers.selector, address(treasury), ours, ours - AMOUNT)
        );
        hostile.set(HostileToken.Mode.SaysYesMovesNothing);
        _refused(
            execution, abi.encodeWithSelector(ITreasury.BalanceDiffers.selector, address(treasury), ours - AMOUNT, ours)
        );
        hostile.set(HostileToken.Mode.TakesFee);
        _refused(execution, abi.encodeWithSelector(ITreasury.BalanceDiffers.selector, builder, AMOUNT, AMOUNT - 1));
        hostile.set(HostileToken.Mode.TakesTooMuch);
        _refused(
            execution,
            abi.encodeWithSelector(
                ITreasury.BalanceDiffers.selector, address(treasury), ours - AMOUNT, ours - AMOUNT - 1
            )
        );
    }

    function test_ff56_a_token_that_answers_nothing_is_believed_by_its_balances() external {
        Silent silent = new Silent();
        enactAsset("SLNT", address(silent));
        enactAccount("t-slnt", "SLNT", Names.CHAIN, address(treasury));
        enactAccount("s-builder", "SLNT", Names.PAYEE, builder);
        silent.mint(address(treasury), 2 * AMOUNT);
        vm.warp(block.timestamp + 14 days);
        treasury.execute(_payable("SLNT", "t-slnt", "s-builder"));
        same(silent.balanceOf(builder), AMOUNT);
        same(treasury.credited(address(silent)), 0);
        silent.deny(builder);
        treasury.execute(_payable("SLNT", "t-slnt", "s-builder"));
        same(treasury.credit(builder, address(silent)), AMOUNT);
        silent.deny(address(0));
        treasury.pull(builder, address(silent));
        same(silent.balanceOf(builder), 2 * AMOUNT);
        same(silent.balanceOf(address(treasury)), 0);
    }

    function test_ff57_a_payee_that_calls_back_while_it_takes_coin_finds_the_door_locked() external {
        CallsBack greedy = new CallsBack();
        enactAccount("greedy", "COIN", Names.PAYEE, address(greedy));
        vm.warp(block.timestamp + 14 days);
        ITreasury.Execution memory other = _payable("COIN", "t-coin", "greedy");
        ITreasury.Refunding memory asked;
        bytes[3] memory doors = [
            abi.encodeCall(treasury.execute, (other)),
            abi.encodeCall(treasury.refund, (asked)),
            abi.encodeCall(treasury.pull, (address(greedy), Money.COIN))
        ];
        for (uint256 i = 0; i < doors.length; ++i) {
            ITreasury.Execution memory execution = _payable("COIN", "t-coin", "greedy");
            greedy.reenter(address(treasury), doors[i], 0);
            treasury.execute(execution);
            same(bytes32(bytes4(greedy.answer())), bytes32(ReentrancyGuard.ReentrancyGuardReentrantCall.selector));
            same(address(greedy).balance, (i + 1) * AMOUNT);
        }
        same(greedy.calls(), doors.length);
        treasury.execute(other);
    }

    function test_ff57_a_token_that_calls_back_finds_the_door_locked() external {
        ITreasury.Execution memory execution = _payable("HOST", "t-host", "h-builder");
        hostile.reenter(address(treasury), abi.encodeCall(treasury.execute, (execution)));
        treasury.execute(execution);
        // The call back made the token revert, so the payee was credited, and nothing was paid twice.
        same(treasury.credit(builder, address(hostile)) + hostile.balanceOf(builder), AMOUNT);
        hostile.reenter(address(treasury), abi.encodeCall(treasury.pull, (builder, address(hostile))));
        vm.expectRevert(abi.encodeWithSelector(ITreasury.NotReceived.selector, builder, address(hostile)));
        treasury.pull(builder, address(hostile));
    }

    function test_nobody_pulls_in_the_middle_of_a_payment() external {
        hostile.deny(builder);
        treasury.execute(_payable("HOST", "t-host", "h-builder"));
        hostile.deny(address(0));
        ITreasury.Execution memory execution = _payable("HOST", "t-host", "h-builder");
        hostile.reenter(address(treasury), abi.encodeCall(treasury.pull, (builder, address(hostile))));
        // The locked door makes the token fail, and failing tokens are credited.
        treasury.execute(execution);
        same(treasury.credit(builder, address(hostile)), 2 * AMOUNT);
    }

    // --- what is told ---

    function test_what_is_paid_credited_and_pulled_is_told() external {
        hostile.deny(builder);
        ITreasury.Execution memory execution = _payable("HOST", "t-host", "h-builder");
        vm.expectEmit(address(treasury));
        emit ITreasury.Executed(
            _hash(execution.order), _hash(execution.milestone), builder, address(hostile), AMOUNT
        );
        vm.expectEmit(address(treasury));
        emit ITreasury.Credited(builder, address(hostile), AMOUNT);
        treasury.execute(execution);
        isTrue(treasury.isPaid(_hash(execution.order)) && treasury.isMilestonePaid(_hash(execution.milestone)));
        same(treasury.paid(execution.order.allocationHash), AMOUNT);
        hostile.deny(address(0));
        vm.expectEmit(address(treasury));
        emit ITreasury.Pulled(builder, address(hostile), AMOUNT);
        treasury.pull(builder, address(hostile));
    }

    function test_who_stopped_what_until_when_is_told() external {
        vm.expectEmit(address(treasury));
        emit ITreasury.Stopped(ACT, vm.addr(AUDITOR), uint64(block.timestamp + 30 days));
        vm.prank(vm.addr(AUDITOR));
        treasury.stop(ACT);
    }

    function testFuzz_what_is_paid_and_what_is_kept_add_up(uint128 amount, uint128 balance) external {
        amount = uint128(within(amount, 1, COMMITTED));
        balance = uint128(within(balance, 0, 2 * COMMITTED));
        ITreasury.Execution memory execution = _payable("COIN", "t-coin", "closed");
        closed.set(amount % 2 == 0);
        execution.milestone.amount = execution.certificate.amount = execution.order.amount = amount;
        _relink(execution);
        vm.deal(address(treasury), balance);
        try treasury.execute(execution) {
            isTrue(balance >= amount);
        } catch {
            isTrue(balance < amount);
            amount = 0;
        }
        same(address(closed).balance + treasury.credited(Money.COIN), amount);
        same(address(closed).balance + address(treasury).balance, balance);
    }
}
