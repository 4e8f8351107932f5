// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {IWatchdog} from "../src/interfaces/IWatchdog.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {Spending} from "./Spending.sol";
import {vm} from "./Vm.sol";

/// @notice Each breach is shown by what is in the ledger, and its nearest innocent twin is refused.
contract WatchdogTest is Spending {
    ITreasury.Execution internal sound;

    function setUp() public override {
        super.setUp();
        _keep(_payable("TKZT", "t-tkzt", "builder"));
    }

    // --- breaches of a commitment ---

    function test_orders_beyond_their_allocation_freeze_the_last_ones_commitment() external {
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](4);
        for (uint256 i = 0; i < 4; ++i) {
            orders[i] = _order(i == 3 ? uint128(301) : 400, "builder");
        }
        _prove(orders);
        (IWatchdog.Head memory head, IWatchdog.SignedOrder[] memory fewer) = (_head(), _first(orders, 3));
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, ALLOTTED, 1_200));
        watchdog.reportOverspent(head, fewer);
        fewer = _first(orders, 1);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.TooFewOrders.selector, 2, 1));
        watchdog.reportOverspent(head, fewer);
        // One order shown twice is one order.
        fewer = _first(orders, 4);
        fewer[3] = orders[2];
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.OrdersNotAscending.selector, orders[2].index, orders[2].index)
        );
        watchdog.reportOverspent(head, fewer);
        watchdog.reportOverspent(head, orders);
        same(watchdog.breachState("O7", orders[3].index), 1);
        _expectFrozen(1, 0);
    }

    function test_orders_up_to_their_allocation_are_no_breach() external {
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](2);
        (orders[0], orders[1]) = (_order(ALLOTTED - 1, "builder"), _order(1, "builder"));
        _prove(orders);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, ALLOTTED, ALLOTTED));
        watchdog.reportOverspent(head, orders);
        orders[1].order.allocationHash = ACT;
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.AnotherAllocation.selector, orders[0].order.allocationHash, ACT)
        );
        watchdog.reportOverspent(head, orders);
    }

    function test_orders_of_an_allocation_that_is_not_registered_are_another_breach() external {
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](2);
        for (uint256 i = 0; i < 2; ++i) {
            orders[i].order = sound.order;
            orders[i].order.allocationHash = ACT;
            orders[i].order.order = i == 0 ? bytes32("x") : bytes32("y");
            orders[i].index = add(abi.encode(Records.ORDER, orders[i].order));
        }
        _prove(orders);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, 0, 2 * AMOUNT));
        watchdog.reportOverspent(head, orders);
    }

    function test_an_order_to_another_payee_than_its_commitments_is_a_breach() external {
        IWatchdog.SignedOrder memory order = _proved(_order(400, "thief"));
        IWatchdog.SignedOrder memory innocent = _proved(_order(400, "builder"));
        order = _at(order);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NoBreachWord.selector, bytes32("builder"), bytes32("builder"))
        );
        watchdog.reportPayee(head, innocent, sound.commitment);
        Records.Commitment memory other = sound.commitment;
        other.payee = "another";
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.CommitmentDiffers.selector, order.order.commitmentHash, _hash(other)
            )
        );
        watchdog.reportPayee(head, order, other);
        watchdog.reportPayee(head, order, sound.commitment);
        _expectFrozen(1, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.AlreadyBreached.selector, bytes32("O3"), order.index)
        );
        watchdog.reportPayee(head, order, sound.commitment);
    }

    function test_an_order_of_no_registered_allocation_is_a_breach_after_fourteen_days() external {
        IWatchdog.SignedOrder memory order = _order(400, "builder");
        order.order.allocationHash = ACT;
        order.index = add(abi.encode(Records.ORDER, order.order));
        order = _proved(order);
        IWatchdog.SignedOrder memory innocent = _at(_proved(_order(1, "builder")));
        order = _at(order);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.RegisterStillOpen.selector, head.time + 14 days, block.timestamp
            )
        );
        watchdog.reportUnregistered(head, order);
        vm.warp(head.time + 14 days);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, ALLOTTED, 1));
        watchdog.reportUnregistered(head, innocent);
        watchdog.reportUnregistered(head, order);
        same(watchdog.breachState("O1", order.index), 1);
        _expectFrozen(1, 0);
    }

    function test_two_orders_for_one_milestone_are_a_breach() external {
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](2);
        Records.Certificate memory other = sound.certificate;
        other.amount = 1;
        orders[0] = _order(400, "builder");
        orders[0].order.certificateHash = _hash(sound.certificate);
        orders[1] = _order(1, "builder");
        orders[1].order.certificateHash = _hash(other);
        orders[0].index = add(abi.encode(Records.ORDER, orders[0].order));
        orders[1].index = add(abi.encode(Records.ORDER, orders[1].order));
        _prove(orders);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.OrdersNotAscending.selector, orders[1].index, orders[0].index)
        );
        watchdog.reportTwice(head, orders[1], orders[0], other, sound.certificate);
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.CertificateDiffers.selector, _hash(sound.certificate), _hash(other)
            )
        );
        watchdog.reportTwice(head, orders[0], orders[1], other, other);
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.CertificateDiffers.selector, _hash(other), _hash(sound.certificate)
            )
        );
        watchdog.reportTwice(head, orders[0], orders[1], sound.certificate, sound.certificate);
        watchdog.reportTwice(head, orders[0], orders[1], sound.certificate, other);
        _expectFrozen(1, 0);
    }

    /// @dev Which no ledger may have (H4). It is paid once all the same; what is frozen is its commitment and nothing else.
    function test_an_order_that_the_log_has_twice_counts_as_two_and_freezes_its_commitment_alone() external {
        ITreasury.Execution memory other = _payable("TKZT", "t-tkzt", "builder");
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](2);
        (orders[0].order, orders[0].index) = (sound.order, sound.index);
        (orders[1].order, orders[1].index) = (sound.order, add(abi.encode(Records.ORDER, sound.order)));
        _prove(orders);
        Records.Certificate memory certificate = sound.certificate;
        watchdog.reportTwice(_head(), orders[0], orders[1], certificate, certificate);
        _expectFrozen(1, 0);
        treasury.execute(other);
    }

    function test_orders_for_two_milestones_are_no_breach() external {
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](2);
        Records.Certificate memory other = sound.certificate;
        other.milestoneHash = ACT;
        orders[0] = _order(400, "builder");
        orders[1] = _order(400, "builder");
        orders[1].order.certificateHash = _hash(other);
        orders[1].index = add(abi.encode(Records.ORDER, orders[1].order));
        _prove(orders);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NoBreachWord.selector, sound.certificate.milestoneHash, ACT)
        );
        watchdog.reportTwice(head, orders[0], orders[1], sound.certificate, other);
    }

    function test_an_order_for_what_was_refused_is_a_breach() external {
        Records.Certificate memory refused = sound.certificate;
        refused.accepted = 0;
        IWatchdog.SignedOrder memory order = _order(400, "builder");
        order.order.certificateHash = _hash(refused);
        order.index = add(abi.encode(Records.ORDER, order.order));
        order = _proved(order);
        IWatchdog.SignedOrder memory innocent = _at(_proved(_order(400, "builder")));
        order = _at(order);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, 1, 1));
        watchdog.reportRefused(head, innocent, sound.certificate);
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.CertificateDiffers.selector, _hash(refused), _hash(sound.certificate)
            )
        );
        watchdog.reportRefused(head, order, sound.certificate);
        watchdog.reportRefused(head, order, refused);
        _expectFrozen(1, 0);
    }

    function test_a_transfer_to_the_republic_before_its_time_is_a_breach() external {
        IWatchdog.SignedOrder memory order = _order(400, "republic");
        IWatchdog.SignedOrder memory innocent = _order(400, "builder");
        IWatchdog.Proved memory transfer = _transfer(START, order);
        IWatchdog.Proved memory late = _transfer(RETENTION_END, order);
        IWatchdog.Proved memory other = _transfer(START, innocent);
        publish();
        (order, innocent) = (_at(_signed(order)), _at(_signed(innocent)));
        (transfer.proof, late.proof, other.proof) = (path(transfer.index), path(late.index), path(other.index));
        IWatchdog.Head memory head = _head();
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.TransferOfAnother.selector, _hash(order.order), _hash(innocent.order))
        );
        watchdog.reportRepublic(head, other, order);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NoBreachWord.selector, Names.REPUBLIC, bytes32("builder"))
        );
        watchdog.reportRepublic(head, other, innocent);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, RETENTION_END, RETENTION_END));
        watchdog.reportRepublic(head, late, order);
        IWatchdog.Proved memory kind = IWatchdog.Proved(abi.encode(Records.ORDER, order.order), 0, late.proof);
        (kind.index, kind.proof) = (order.index, order.proof);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.WrongLength.selector, 352, kind.record.length));
        watchdog.reportRepublic(head, kind, order);
        watchdog.reportRepublic(head, transfer, order);
        same(watchdog.breachState("G7", transfer.index), 1);
        _expectFrozen(1, 0);
    }

    function test_a_record_of_a_transfers_length_is_not_yet_a_transfer() external {
        IWatchdog.SignedOrder memory order = _order(400, "republic");
        bytes memory record = abi.encode(Records.REFUND, ACT, ACT, ACT, ACT, ACT, ACT, ACT, ACT, ACT, ACT);
        IWatchdog.Proved memory transfer;
        Records.Transfer memory empty;
        record = abi.encode(Records.REFUND, empty);
        (transfer.record, transfer.index) = (record, add(record));
        publish();
        order = _at(_signed(order));
        transfer.proof = path(transfer.index);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.AnotherKind.selector, Records.TRANSFER, Records.REFUND)
        );
        watchdog.reportRepublic(head, transfer, order);
    }

    // --- breaches of the log ---

    function test_time_that_goes_back_freezes_the_treasury() external {
        uint64 first = add(abi.encode(Records.ORDER, uint256(100)));
        uint64 second = add(abi.encode(Records.ORDER, uint256(100)));
        uint64 third = add(abi.encode(Records.ORDER, uint256(99)));
        publish();
        IWatchdog.Head memory head = _head();
        IWatchdog.Proved memory earlier = _plain(first, 100);
        IWatchdog.Proved memory same_ = _plain(second, 100);
        IWatchdog.Proved memory later = _plain(third, 99);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoBreach.selector, 100, 100));
        watchdog.reportTime(head, earlier, same_);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.OrdersNotAscending.selector, third, first));
        watchdog.reportTime(head, later, earlier);
        // Neither record may be made up.
        (same_.record, same_.index) = (abi.encode(Records.ORDER, uint256(98)), second);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, second, head.size));
        watchdog.reportTime(head, earlier, same_);
        same_.record = abi.encode(Records.ORDER, uint256(101));
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, second, head.size));
        watchdog.reportTime(head, same_, later);
        watchdog.reportTime(head, earlier, later);
        _expectFrozen(0, 1);
    }

    function test_a_record_of_no_kind_freezes_the_treasury_even_if_it_is_no_word_long() external {
        uint64 first = add(abi.encode(keccak256("Gift(uint64 time)"), uint256(1)));
        uint64 second = add("?");
        publish();
        IWatchdog.Head memory head = _head();
        IWatchdog.Proved memory known =
            IWatchdog.Proved(abi.encode(Records.ORDER, sound.order), sound.index, path(sound.index));
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NoBreachWord.selector, Records.ORDER, Records.ORDER)
        );
        watchdog.reportKind(head, known);
        IWatchdog.Proved memory made = IWatchdog.Proved("!", second, path(second));
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, second, head.size));
        watchdog.reportKind(head, made);
        watchdog.reportKind(
            head, IWatchdog.Proved(abi.encode(keccak256("Gift(uint64 time)"), uint256(1)), first, path(first))
        );
        watchdog.reportKind(head, IWatchdog.Proved("?", second, path(second)));
        _expectFrozen(0, 2);
    }

    function test_a_record_of_one_known_word_is_of_a_kind_and_of_no_time() external {
        uint64 first = add(abi.encode(Records.ORDER, uint256(1)));
        uint64 second = add(abi.encode(Records.ORDER));
        publish();
        IWatchdog.Head memory head = _head();
        IWatchdog.Proved memory short = IWatchdog.Proved(abi.encode(Records.ORDER), second, path(second));
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NoBreachWord.selector, Records.ORDER, Records.ORDER)
        );
        watchdog.reportKind(head, short);
        watchdog.reportTime(head, _plain(first, 1), short);
        same(watchdog.breachState("H2", second), 1);
    }

    function test_a_record_that_is_no_word_long_has_no_time_either() external {
        uint64 first = add(abi.encode(Records.ORDER, uint256(1)));
        uint64 second = add("twenty bytes of text");
        publish();
        IWatchdog.Head memory head = _head();
        watchdog.reportTime(
            head, _plain(first, 1), IWatchdog.Proved("twenty bytes of text", second, path(second))
        );
        same(watchdog.breachState("H2", second), 1);
    }

    // --- who must have signed ---

    function test_an_order_that_no_quorum_of_the_authority_signed_proves_nothing() external {
        IWatchdog.SignedOrder memory order = _proved(_order(400, "thief"));
        IWatchdog.Head memory head = _head();
        Signature[] memory good = order.approvals;
        bytes memory record = abi.encode(Records.ORDER, order.order);
        order.approvals = new Signature[](0);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoQuorum.selector, Names.AUTHORITY, 1, 0));
        watchdog.reportPayee(head, order, sound.commitment);
        order.approvals = approve(keys1(CERTIFIER), Records.APPROVE_ORDER, record, FOREVER);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NeverSeated.selector, Names.AUTHORITY, vm.addr(CERTIFIER))
        );
        watchdog.reportPayee(head, order, sound.commitment);
        order.approvals[0].signer = vm.addr(AUTHORITY);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.WrongSigner.selector, vm.addr(AUTHORITY), vm.addr(CERTIFIER))
        );
        watchdog.reportPayee(head, order, sound.commitment);
        order.approvals = new Signature[](2);
        (order.approvals[0], order.approvals[1]) = (good[0], good[0]);
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.SignersNotAscending.selector, vm.addr(AUTHORITY), vm.addr(AUTHORITY)
            )
        );
        watchdog.reportPayee(head, order, sound.commitment);
        // Deadlines and terms do not help who signed it.
        order.approvals = approve(keys1(AUTHORITY), Records.APPROVE_ORDER, record, START);
        vm.warp(FOREVER + 1);
        watchdog.reportPayee(head, order, sound.commitment);
    }

    /// @dev Each report is right but for one proof, and right with it.
    function test_what_is_not_in_the_ledger_proves_nothing() external {
        Records.Certificate memory refused = sound.certificate;
        (refused.accepted, refused.amount) = (0, 1);
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](4);
        orders[0] = _order(400, "thief");
        orders[1] = _order(400, "builder");
        orders[1].order.allocationHash = ACT;
        orders[1].index = add(abi.encode(Records.ORDER, orders[1].order));
        orders[2] = _order(400, "builder");
        orders[2].order.certificateHash = _hash(refused);
        orders[2].index = add(abi.encode(Records.ORDER, orders[2].order));
        orders[3] = _order(400, "republic");
        IWatchdog.Proved memory transfer = _transfer(START, orders[3]);
        _prove(orders);
        transfer.proof = path(transfer.index);
        IWatchdog.Head memory head = _head();
        vm.warp(block.timestamp + 14 days);
        Records.Certificate memory good = sound.certificate;
        Records.Commitment memory commitment = sound.commitment;
        bytes32[][] memory proofs = new bytes32[][](4);
        for (uint256 i = 0; i < 4; ++i) {
            (proofs[i], orders[i].proof) = (orders[i].proof, new bytes32[](0));
        }
        _notIncluded(orders[0].index, head);
        watchdog.reportPayee(head, orders[0], commitment);
        _notIncluded(orders[1].index, head);
        watchdog.reportUnregistered(head, orders[1]);
        _notIncluded(orders[2].index, head);
        watchdog.reportRefused(head, orders[2], refused);
        _notIncluded(orders[3].index, head);
        watchdog.reportRepublic(head, transfer, orders[3]);
        (orders[3].proof, transfer.proof) = (proofs[3], new bytes32[](0));
        _notIncluded(transfer.index, head);
        watchdog.reportRepublic(head, transfer, orders[3]);
        // Of two orders for one milestone each must be there, and they are two.
        orders[0].proof = proofs[0];
        _notIncluded(orders[2].index, head);
        watchdog.reportTwice(head, orders[0], orders[2], good, refused);
        (orders[2].proof, orders[0].proof) = (proofs[2], new bytes32[](0));
        _notIncluded(orders[0].index, head);
        watchdog.reportTwice(head, orders[0], orders[2], good, refused);
        orders[0].proof = proofs[0];
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.OrdersNotAscending.selector, orders[0].index, orders[0].index)
        );
        watchdog.reportTwice(head, orders[0], orders[0], good, good);
        watchdog.reportTwice(head, orders[0], orders[2], good, refused);
        orders[1].proof = proofs[1];
        watchdog.reportUnregistered(head, orders[1]);
        transfer.proof = path(transfer.index);
        watchdog.reportRepublic(head, transfer, orders[3]);
    }

    /// @dev At one index there is one record, whatever times two claim to have.
    function test_time_does_not_go_back_within_one_record() external {
        uint64 first = add(abi.encode(Records.ORDER, uint256(100)));
        publish();
        IWatchdog.Head memory head = _head();
        IWatchdog.Proved memory proved = _plain(first, 100);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.OrdersNotAscending.selector, first, first));
        watchdog.reportTime(head, proved, proved);
    }

    function _notIncluded(uint64 index, IWatchdog.Head memory head) private {
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, index, head.size));
    }

    // --- what ends a freeze ---

    function test_leak_26_council_and_auditor_lift_a_breach_once_and_it_stays_an_exception() external {
        IWatchdog.SignedOrder memory order = _proved(_order(400, "thief"));
        watchdog.reportPayee(_head(), order, sound.commitment);
        Records.Acknowledgement memory record = Records.Acknowledgement(START, order.index, "O3", ACT);
        (IWatchdog.Proved memory shown, Signature[] memory council_, Signature[] memory auditors) =
            _acknowledged(record);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.COUNCIL, 3, 1));
        watchdog.lift(head, shown, auditors, auditors);
        Signature[] memory none = new Signature[](0);
        vm.expectRevert(abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.AUDITOR, 1, 0));
        watchdog.lift(head, shown, council_, none);
        bytes32[] memory proof = shown.proof;
        shown.proof = new bytes32[](0);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, shown.index, head.size));
        watchdog.lift(head, shown, council_, auditors);
        shown.proof = proof;
        watchdog.lift(head, shown, council_, auditors);
        same(watchdog.breachState("O3", order.index), 2);
        same(watchdog.frozen(_hash(sound.commitment)), 0);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.NoSuchBreach.selector, bytes32("O3"), order.index)
        );
        watchdog.lift(head, shown, council_, auditors);
        order = _at(order);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.AlreadyBreached.selector, bytes32("O3"), order.index)
        );
        watchdog.reportPayee(head, order, sound.commitment);
        treasury.execute(sound);
    }

    function test_a_breach_of_the_log_holds_refunds_as_well_and_of_a_commitment_does_not() external {
        IWatchdog.SignedOrder memory order = _proved(_order(400, "thief"));
        watchdog.reportPayee(_head(), order, sound.commitment);
        ITreasury.Refunding memory asked = _refund();
        treasury.refund(asked);
        same(token.balanceOf(merchant), 100);
        IWatchdog.Proved memory strange =
            IWatchdog.Proved(abi.encode(bytes32("no kind")), add(abi.encode(bytes32("no kind"))), new bytes32[](0));
        publish();
        strange.proof = path(strange.index);
        watchdog.reportKind(_head(), strange);
        asked = _refund();
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.Frozen.selector, 0, 1, 1));
        treasury.refund(asked);
    }

    function test_a_breach_and_its_end_are_told() external {
        IWatchdog.SignedOrder memory order = _proved(_order(400, "thief"));
        IWatchdog.Head memory head = _head();
        vm.expectEmit(address(watchdog));
        emit IWatchdog.Breached("O3", order.index, _hash(sound.commitment));
        watchdog.reportPayee(head, order, sound.commitment);
        (IWatchdog.Proved memory shown, Signature[] memory council_, Signature[] memory auditors) =
            _acknowledged(Records.Acknowledgement(START, order.index, "O3", ACT));
        head = _head();
        vm.expectEmit(address(watchdog));
        emit IWatchdog.Lifted("O3", order.index, _hash(sound.commitment));
        watchdog.lift(head, shown, council_, auditors);
    }

    function test_orders_that_nobody_signed_or_the_ledger_does_not_have_overspend_nothing() external {
        IWatchdog.SignedOrder[] memory orders = new IWatchdog.SignedOrder[](4);
        for (uint256 i = 0; i < 4; ++i) {
            orders[i] = _order(400, "builder");
        }
        publish();
        for (uint256 i = 0; i < 4; ++i) {
            orders[i] = _at(orders[i]);
            if (i != 1) orders[i] = _signed(orders[i]);
        }
        IWatchdog.Head memory head = _head();
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.NoQuorum.selector, Names.AUTHORITY, 1, 0));
        watchdog.reportOverspent(head, orders);
        orders[1] = _signed(orders[1]);
        orders[2].proof = new bytes32[](0);
        vm.expectRevert(
            abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, orders[2].index, head.size)
        );
        watchdog.reportOverspent(head, orders);
    }

    function test_an_acknowledgement_of_another_breach_or_without_an_act_lifts_nothing() external {
        IWatchdog.SignedOrder memory order = _proved(_order(400, "thief"));
        watchdog.reportPayee(_head(), order, sound.commitment);
        _liftRefused(
            Records.Acknowledgement(START, order.index + 1, "O3", ACT),
            abi.encodeWithSelector(IWatchdog.NoSuchBreach.selector, bytes32("O3"), order.index + 1)
        );
        _liftRefused(
            Records.Acknowledgement(START, order.index, "O2", ACT),
            abi.encodeWithSelector(IWatchdog.NoSuchBreach.selector, bytes32("O2"), order.index)
        );
        Records.Acknowledgement memory record = Records.Acknowledgement(START, order.index, "O3", 0);
        _liftRefused(
            record,
            abi.encodeWithSelector(
                IWatchdog.ActMissing.selector, keccak256(abi.encode(Records.ACKNOWLEDGEMENT, record))
            )
        );
        IWatchdog.Proved memory shown = IWatchdog.Proved(new bytes(32 * 5), 0, new bytes32[](0));
        IWatchdog.Head memory head = _head();
        Signature[] memory none = new Signature[](0);
        vm.expectRevert(
            abi.encodeWithSelector(IWatchdog.AnotherKind.selector, Records.ACKNOWLEDGEMENT, 0)
        );
        watchdog.lift(head, shown, none, none);
        shown.record = new bytes(32 * 6);
        vm.expectRevert(abi.encodeWithSelector(IWatchdog.WrongLength.selector, 160, 192));
        watchdog.lift(head, shown, none, none);
        same(watchdog.frozen(_hash(sound.commitment)), 1);
    }

    function _refund() private returns (ITreasury.Refunding memory asked) {
        bytes32 to = bytes32(uint256(uint160(merchant)));
        asked.receipt =
            Records.Transfer(START, bytes32(uint256(++number)), "t-tkzt", "r", "TKZT", 900, "fee", 0, ACT, to);
        bytes memory receipt = abi.encode(Records.TRANSFER, asked.receipt);
        asked.receiptIndex = add(receipt);
        asked.refund = Records.Refund(START, bytes32(uint256(number)), keccak256(receipt), 100, to, ACT);
        bytes memory record = abi.encode(Records.REFUND, asked.refund);
        asked.authorityApprovals = _approvals(AUTHORITY, Records.APPROVE_REFUND, record);
        asked.auditorApprovals = _approvals(AUDITOR, Records.APPROVE_REFUND, record);
        asked.index = add(record);
        publish();
        (asked.headSize, asked.headTime) = (anchor.head().size, anchor.head().time);
        (asked.proof, asked.receiptProof) = (path(asked.index), path(asked.receiptIndex));
        vm.warp(block.timestamp + 1 days);
    }

    // --- in short ---

    function _expectFrozen(uint256 breaches, uint256 ofTheLog) private {
        ITreasury.Execution memory execution = sound;
        vm.expectRevert(
            abi.encodeWithSelector(
                IWatchdog.Frozen.selector, execution.order.commitmentHash, breaches, ofTheLog
            )
        );
        treasury.execute(execution);
    }

    /// @dev Solidity copies no such struct to storage in one go.
    function _keep(ITreasury.Execution memory execution) private {
        (sound.order, sound.commitment, sound.milestone) =
            (execution.order, execution.commitment, execution.milestone);
        (sound.certificate, sound.index) = (execution.certificate, execution.index);
        (sound.headSize, sound.headTime) = (execution.headSize, execution.headTime);
        sound.proof = execution.proof;
        sound.orderApprovals.push(execution.orderApprovals[0]);
        sound.certificateApprovals.push(execution.certificateApprovals[0]);
    }

    function _head() private view returns (IWatchdog.Head memory) {
        return IWatchdog.Head(anchor.head().size, anchor.head().time);
    }

    /// @dev An order like the sound one, recorded; not yet anchored.
    function _order(uint128 amount, bytes32 payee) private returns (IWatchdog.SignedOrder memory signed) {
        signed.order = sound.order;
        signed.order.order = bytes32(bytes1(uint8(0x61 + ++number)));
        (signed.order.amount, signed.order.payee) = (amount, payee);
        signed.index = add(abi.encode(Records.ORDER, signed.order));
    }

    function _signed(IWatchdog.SignedOrder memory order) private view returns (IWatchdog.SignedOrder memory) {
        order.approvals = _approvals(AUTHORITY, Records.APPROVE_ORDER, abi.encode(Records.ORDER, order.order));
        return order;
    }

    function _at(IWatchdog.SignedOrder memory order) private view returns (IWatchdog.SignedOrder memory) {
        order.proof = path(order.index);
        return order;
    }

    function _proved(IWatchdog.SignedOrder memory order) private returns (IWatchdog.SignedOrder memory) {
        publish();
        return _at(_signed(order));
    }

    function _prove(IWatchdog.SignedOrder[] memory orders) private {
        publish();
        for (uint256 i = 0; i < orders.length; ++i) {
            orders[i] = _at(_signed(orders[i]));
        }
    }

    function _first(IWatchdog.SignedOrder[] memory orders, uint256 count)
        private
        pure
        returns (IWatchdog.SignedOrder[] memory some)
    {
        some = new IWatchdog.SignedOrder[](count);
        for (uint256 i = 0; i < count; ++i) {
            some[i] = orders[i];
        }
    }

    function _plain(uint64 index, uint256 time) private view returns (IWatchdog.Proved memory) {
        return IWatchdog.Proved(abi.encode(Records.ORDER, time), index, path(index));
    }

    function _transfer(uint64 time, IWatchdog.SignedOrder memory order)
        private
        returns (IWatchdog.Proved memory proved)
    {
        Records.Transfer memory record = Records.Transfer(
            time, ACT, "project", "t-tkzt", "TKZT", order.order.amount, order.order.order, _hash(order.order), ACT, 0
        );
        proved.record = abi.encode(Records.TRANSFER, record);
        proved.index = add(proved.record);
    }

    function _acknowledged(Records.Acknowledgement memory record)
        private
        returns (IWatchdog.Proved memory shown, Signature[] memory council_, Signature[] memory auditors)
    {
        shown.record = abi.encode(Records.ACKNOWLEDGEMENT, record);
        shown.index = add(shown.record);
        publish();
        shown.proof = path(shown.index);
        council_ = approve(keys3(1, 2, 3), Records.APPROVE_ACKNOWLEDGEMENT, shown.record, FOREVER);
        auditors = approve(keys1(AUDITOR), Records.APPROVE_ACKNOWLEDGEMENT, shown.record, FOREVER);
    }

    function _liftRefused(Records.Acknowledgement memory record, bytes memory refusal) private {
        (IWatchdog.Proved memory shown, Signature[] memory council_, Signature[] memory auditors) =
            _acknowledged(record);
        IWatchdog.Head memory head = _head();
        vm.expectRevert(refusal);
        watchdog.lift(head, shown, council_, auditors);
    }
}
