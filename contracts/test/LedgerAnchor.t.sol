// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {City} from "./City.sol";
import {Reference} from "./Reference.sol";
import {vm} from "./Vm.sol";

contract LedgerAnchorTest is City {
    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 5; ++i) {
            add(abi.encode(i));
        }
        publish();
    }

    function test_the_first_head_needs_no_proof_and_takes_none() external {
        super.setUp();
        bytes32[] memory proof = new bytes32[](1);
        _refused(
            OPERATOR,
            WATCHER,
            1,
            keccak256("root"),
            proof,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.ProofNotEmpty.selector, 0, 1)
        );
    }

    function test_a_head_says_when_it_was_anchored() external {
        ILedgerAnchor.Head memory head = anchor.head();
        same(head.size, 5);
        same(head.time, START);
        same(head.root, Reference.root(leaves, 0, 5));
        same(anchor.rootAt(5, START), head.root);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.UnknownHead.selector, 5, 4, START));
        anchor.rootAt(4, START);
    }

    function testFuzz_a_head_is_found_in_the_second_of_its_anchoring_alone(uint64 size, uint64 time) external {
        vm.assume(size != 5 || time != START);
        vm.expectRevert();
        anchor.rootAt(size, time);
    }

    function test_a_time_that_spills_into_the_size_is_refused() external {
        uint64 spilt = START + 2 ** 33;
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.TimeTooLarge.selector, 2 ** 33 - 1, spilt));
        // One bit further left, the time's would be one more in the size.
        anchor.rootAt(4, spilt);
    }

    function test_a_head_may_have_the_last_size_there_is() external {
        super.setUp();
        bytes32 root = keccak256("root");
        Signature memory signature = witness(WATCHER, 2 ** 63 - 1, root, FOREVER);
        vm.prank(vm.addr(OPERATOR));
        anchor.append(
            2 ** 63 - 1, root, new bytes32[](0), FOREVER, signature.r, compact(signature.v, signature.s)
        );
        same(anchor.head().size, 2 ** 63 - 1);
        signature = witness(WATCHER, 2 ** 63 - 1, root, FOREVER);
        vm.prank(vm.addr(OPERATOR));
        vm.expectRevert(
            abi.encodeWithSelector(ILedgerAnchor.SizeTooLarge.selector, 2 ** 63 - 1, uint256(2) ** 63)
        );
        anchor.append(2 ** 63, root, new bytes32[](0), FOREVER, signature.r, signature.s);
    }

    function test_within_a_period_the_council_is_asked_once() external {
        (uint64 size, bytes32 root, bytes32[] memory proof, Signature memory signature) = _next();
        vm.warp((block.timestamp / 14 days + 1) * 14 days);
        vm.prank(vm.addr(OPERATOR));
        anchor.append(size, root, proof, FOREVER, signature.r, compact(signature.v, signature.s));
        (size, root, proof, signature) = _next();
        vm.warp(block.timestamp + 14 days - 1);
        vm.expectCall(address(council), "", 0);
        vm.prank(vm.addr(OPERATOR));
        anchor.append(size, root, proof, FOREVER, signature.r, compact(signature.v, signature.s));
    }

    function test_leak_24_after_a_fork_of_the_chain_a_watchers_signature_counts_on_one_side_only() external {
        (uint64 size, bytes32 root, bytes32[] memory proof, Signature memory signature) = _next();
        vm.chainId(1);
        vm.prank(vm.addr(OPERATOR));
        try anchor.append(size, root, proof, FOREVER, signature.r, compact(signature.v, signature.s)) {
            isTrue(false);
        } catch (bytes memory refusal) {
            same(bytes32(bytes4(refusal)), bytes32(ILedgerAnchor.NotSeated.selector));
        }
        // There its watcher signs anew, in that chain's domain.
        signature = witness(WATCHER, size, root, FOREVER);
        vm.prank(vm.addr(OPERATOR));
        anchor.append(size, root, proof, FOREVER, signature.r, compact(signature.v, signature.s));
    }

    /// @dev One more record, and all that anchors it.
    function _next()
        private
        returns (uint64 size, bytes32 root, bytes32[] memory proof, Signature memory signature)
    {
        add("one more");
        size = uint64(leaves.length);
        root = Reference.root(leaves, 0, size);
        proof = Reference.consistency(anchor.head().size, leaves, 0, size, true);
        signature = witness(WATCHER, size, root, FOREVER);
    }

    // --- resumption (LEAKS 02) ---

    function test_leak_02_a_poisoned_log_goes_on_from_an_earlier_head_by_act_and_notice_alone() external {
        ILedgerAnchor.Head memory sound = anchor.head();
        bytes memory record = abi.encode(uint256(0));
        bytes32[] memory proof = path(0);
        vm.warp(block.timestamp + 1 days);
        (uint64 size, uint64 time) = _poison();
        ILedgerAnchor.Resumption memory asked =
            ILedgerAnchor.Resumption(START, sound.size, sound.time, sound.root, ACT);
        bytes32 hash = _hash(asked);
        Signature[] memory approvals = _resumed(asked);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotAnnounced.selector, hash));
        anchor.resume(asked, approvals);
        uint64 from = uint64(block.timestamp + 14 days);
        vm.expectEmit(address(anchor));
        emit ILedgerAnchor.ResumptionAnnounced(hash, sound.size, sound.time, ACT, from);
        anchor.announceResumption(asked, approvals);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.AlreadyAnnounced.selector, hash, from));
        anchor.announceResumption(asked, approvals);
        vm.warp(from - 1);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NoticeNotOver.selector, from, from - 1));
        anchor.resume(asked, approvals);
        isTrue(anchor.rootAt(size, time) != sound.root);
        vm.warp(from);
        vm.expectEmit(address(anchor));
        emit ILedgerAnchor.Resumed(hash, sound.size, sound.time);
        anchor.resume(asked, approvals);
        same(anchor.head().size, sound.size);
        same(anchor.head().root, sound.root);
        // What came after proves nothing, and what was before all that it did.
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.HeadIsVoid.selector, size, time, from));
        anchor.rootAt(size, time);
        anchor.checkIncluded(record, 0, sound.size, sound.time, proof);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotEarlier.selector, sound.time, sound.time));
        anchor.resume(asked, approvals);
        // The true log goes on, by whoever is seated.
        vm.warp(block.timestamp + 1);
        add("the true log");
        publish();
        same(anchor.rootAt(uint64(leaves.length), uint64(block.timestamp)), anchor.head().root);
        vm.expectRevert(
            abi.encodeWithSelector(ILedgerAnchor.NoticeNotOver.selector, type(uint64).max, block.timestamp)
        );
        anchor.resume(asked, approvals);
    }

    function test_leak_02_a_larger_head_of_the_same_second_is_void_as_well() external {
        add("one more");
        publish();
        ILedgerAnchor.Head memory sound = anchor.head();
        (uint64 size, uint64 time) = _poison();
        same(time, sound.time);
        ILedgerAnchor.Resumption memory asked =
            ILedgerAnchor.Resumption(START, sound.size, sound.time, sound.root, ACT);
        Signature[] memory approvals = _resumed(asked);
        anchor.announceResumption(asked, approvals);
        vm.warp(block.timestamp + 14 days);
        anchor.resume(asked, approvals);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.HeadIsVoid.selector, size, time, block.timestamp));
        anchor.rootAt(size, time);
        same(anchor.rootAt(sound.size, sound.time), sound.root);
        same(anchor.rootAt(5, sound.time), Reference.root(leaves, 0, 5));
    }

    function test_leak_02_a_head_of_the_second_in_which_the_log_goes_on_is_void_as_well() external {
        ILedgerAnchor.Head memory sound = anchor.head();
        vm.warp(block.timestamp + 1 days);
        add("one more");
        publish();
        ILedgerAnchor.Resumption memory asked =
            ILedgerAnchor.Resumption(START, sound.size, sound.time, sound.root, ACT);
        Signature[] memory approvals = _resumed(asked);
        anchor.announceResumption(asked, approvals);
        vm.warp(block.timestamp + 14 days);
        (uint64 size, uint64 time) = _poison();
        anchor.resume(asked, approvals);
        same(time, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.HeadIsVoid.selector, size, time, time));
        anchor.rootAt(size, time);
    }

    function test_leak_02_a_resumption_names_a_head_that_counts_and_an_act_and_has_its_quorum() external {
        ILedgerAnchor.Head memory sound = anchor.head();
        ILedgerAnchor.Resumption memory asked =
            ILedgerAnchor.Resumption(START, sound.size, sound.time, sound.root, ACT);
        _refusedResumption(
            asked, abi.encodeWithSelector(ILedgerAnchor.NotEarlier.selector, sound.time, sound.time)
        );
        _poison();
        asked.act = 0;
        _refusedResumption(asked, abi.encodeWithSelector(ILedgerAnchor.ActMissing.selector, _hash(asked)));
        (asked.act, asked.root) = (ACT, ACT);
        _refusedResumption(asked, abi.encodeWithSelector(ILedgerAnchor.RootDiffers.selector, sound.root, ACT));
        (asked.root, asked.headSize) = (sound.root, 4);
        _refusedResumption(
            asked, abi.encodeWithSelector(ILedgerAnchor.UnknownHead.selector, sound.size + 1, 4, sound.time)
        );
        asked.headSize = sound.size;
        Signature[] memory two = new Signature[](2);
        Signature[] memory three = _resumed(asked);
        (two[0], two[1]) = (three[0], three[1]);
        vm.expectRevert(abi.encodeWithSelector(ICouncil.NoQuorum.selector, Names.COUNCIL, 3, 2));
        anchor.announceResumption(asked, two);
        anchor.announceResumption(asked, three);
        vm.warp(block.timestamp + 14 days);
        // Who takes a signature back in time stops it.
        vm.prank(vm.addr(2));
        council.withdraw(_hash(asked));
        vm.expectRevert(
            abi.encodeWithSelector(ICouncil.SignatureWithdrawn.selector, _hash(asked), vm.addr(2))
        );
        anchor.resume(asked, three);
    }

    function test_leak_02_what_stands_in_a_void_head_alone_is_proved_no_more_and_nothing_goes_on_from_there() external {
        ILedgerAnchor.Head memory sound = anchor.head();
        bytes memory lie = "false record";
        vm.warp(block.timestamp + 1 days);
        bytes32[] memory kept = leaves;
        uint64 index = add(lie);
        publish();
        ILedgerAnchor.Head memory poisoned = anchor.head();
        bytes32[] memory proof = path(index);
        leaves = kept;
        anchor.checkIncluded(lie, index, poisoned.size, poisoned.time, proof);
        uint64 resumed = _resume(sound);
        bytes memory refusal =
            abi.encodeWithSelector(ILedgerAnchor.HeadIsVoid.selector, poisoned.size, poisoned.time, resumed);
        vm.expectRevert(refusal);
        anchor.checkIncluded(lie, index, poisoned.size, poisoned.time, proof);
        _refusedResumption(
            ILedgerAnchor.Resumption(START + 1, poisoned.size, poisoned.time, poisoned.root, ACT), refusal
        );
    }

    function test_leak_02_a_second_resumption_may_go_further_back_and_each_leaves_out_its_own() external {
        ILedgerAnchor.Head[5] memory heads;
        heads[0] = anchor.head();
        vm.warp(block.timestamp + 1 days);
        heads[1] = _extendedBy("true");
        vm.warp(block.timestamp + 1 days);
        heads[2] = _extendedBy("poison");
        leaves.pop();
        uint64 first = _resume(heads[1]);
        vm.warp(block.timestamp + 1 days);
        heads[3] = _extendedBy("true again");
        same(anchor.rootAt(heads[1].size, heads[1].time), heads[1].root);
        same(anchor.rootAt(heads[3].size, heads[3].time), heads[3].root);
        leaves.pop();
        leaves.pop();
        uint64 second = _resume(heads[0]);
        vm.warp(block.timestamp + 1 days);
        heads[4] = _extendedBy("the true log after all");
        same(anchor.rootAt(heads[0].size, heads[0].time), heads[0].root);
        same(anchor.rootAt(heads[4].size, heads[4].time), heads[4].root);
        for (uint256 i = 1; i <= 3; ++i) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    ILedgerAnchor.HeadIsVoid.selector, heads[i].size, heads[i].time, i == 2 ? first : second
                )
            );
            anchor.rootAt(heads[i].size, heads[i].time);
        }
    }

    function test_leak_02_what_one_resumption_left_out_a_later_one_does_not_bring_back() external {
        ILedgerAnchor.Head memory sound = anchor.head();
        vm.warp(block.timestamp + 1 days);
        ILedgerAnchor.Head memory poisoned = _extendedBy("poison");
        leaves.pop();
        uint64 first = _resume(sound);
        vm.warp(block.timestamp + 1 days);
        sound = _extendedBy("true");
        vm.warp(block.timestamp + 1 days);
        ILedgerAnchor.Head memory again = _extendedBy("poison again");
        leaves.pop();
        uint64 second = _resume(sound);
        vm.expectRevert(
            abi.encodeWithSelector(ILedgerAnchor.HeadIsVoid.selector, poisoned.size, poisoned.time, first)
        );
        anchor.rootAt(poisoned.size, poisoned.time);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.HeadIsVoid.selector, again.size, again.time, second));
        anchor.rootAt(again.size, again.time);
        same(anchor.rootAt(sound.size, sound.time), sound.root);
    }

    function _extendedBy(bytes memory record) private returns (ILedgerAnchor.Head memory) {
        add(record);
        publish();
        return anchor.head();
    }

    /// @dev Announce and wait, then go on from this head; the second in which that was.
    function _resume(ILedgerAnchor.Head memory from) private returns (uint64) {
        ILedgerAnchor.Resumption memory asked =
            ILedgerAnchor.Resumption(uint64(block.timestamp), from.size, from.time, from.root, ACT);
        Signature[] memory approvals = _resumed(asked);
        anchor.announceResumption(asked, approvals);
        vm.warp(block.timestamp + 14 days);
        anchor.resume(asked, approvals);
        return uint64(block.timestamp);
    }

    /// @dev By whoever has the keys of an operator and a watcher: a proof is not needed to extend by one what they have.
    function _poison() private returns (uint64 size, uint64 time) {
        bytes32[] memory fake = new bytes32[](leaves.length + 1);
        for (uint256 i = 0; i < leaves.length; ++i) {
            fake[i] = leaves[i];
        }
        fake[leaves.length] = keccak256("false record");
        bytes32[] memory kept = leaves;
        leaves = fake;
        publish();
        (size, time) = (anchor.head().size, anchor.head().time);
        leaves = kept;
    }

    function _hash(ILedgerAnchor.Resumption memory asked) private pure returns (bytes32) {
        return keccak256(abi.encode(keccak256("Resumption(uint64 time,uint64 headSize,uint64 headTime,bytes32 root,bytes32 act)"), asked));
    }

    function _resumed(ILedgerAnchor.Resumption memory asked) private view returns (Signature[] memory) {
        bytes32 kind = keccak256("Resumption(uint64 time,uint64 headSize,uint64 headTime,bytes32 root,bytes32 act)");
        bytes32 typeHash = keccak256(
            "Approve(Resumption record,uint64 validUntil)Resumption(uint64 time,uint64 headSize,uint64 headTime,bytes32 root,bytes32 act)"
        );
        return approve(keys3(1, 2, 3), typeHash, abi.encode(kind, asked), FOREVER);
    }

    function _refusedResumption(ILedgerAnchor.Resumption memory asked, bytes memory refusal) private {
        Signature[] memory approvals = _resumed(asked);
        vm.expectRevert(refusal);
        anchor.announceResumption(asked, approvals);
    }

    function test_each_head_is_told() external {
        uint64 old = anchor.head().size;
        add("one more");
        uint64 size = uint64(leaves.length);
        bytes32 root = Reference.root(leaves, 0, size);
        bytes32[] memory proof = Reference.consistency(old, leaves, 0, size, true);
        Signature memory signature = witness(WATCHER, size, root, FOREVER);
        vm.expectEmit(address(anchor));
        emit ILedgerAnchor.Anchored(size, root, uint64(block.timestamp));
        vm.prank(vm.addr(OPERATOR));
        anchor.append(size, root, proof, FOREVER, signature.r, compact(signature.v, signature.s));
    }

    function test_old_heads_are_kept_whoever_anchors_often() external {
        for (uint256 i = 0; i < 70; ++i) {
            add(abi.encode(i));
            publish();
        }
        anchor.checkIncluded(abi.encode(2), 2, 5, START, Reference.path(2, leaves, 0, 5));
    }

    function test_a_size_that_does_not_grow_is_refused() external {
        bytes32[] memory none = new bytes32[](0);
        bytes32 root = anchor.head().root;
        _refused(
            OPERATOR,
            WATCHER,
            5,
            root,
            none,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.SizeNotGrowing.selector, 5, 5)
        );
        _refused(
            OPERATOR,
            WATCHER,
            4,
            root,
            none,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.SizeNotGrowing.selector, 5, 4)
        );
        _refused(
            OPERATOR,
            WATCHER,
            2 ** 63,
            root,
            none,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.SizeTooLarge.selector, 2 ** 63 - 1, 2 ** 63)
        );
    }

    function test_leak_02_a_log_that_forgot_is_refused() external {
        leaves[1] = leaves[0];
        add("next");
        bytes32[] memory proof = Reference.consistency(5, leaves, 0, 6, true);
        bytes32 root = Reference.root(leaves, 0, 6);
        _refused(
            OPERATOR,
            WATCHER,
            6,
            root,
            proof,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.NotConsistent.selector, 5, 6)
        );
    }

    function test_a_root_of_zero_is_no_root() external {
        _refused(
            OPERATOR,
            WATCHER,
            6,
            0,
            new bytes32[](0),
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.RootIsZero.selector, 6)
        );
    }

    function test_who_was_seated_in_this_period_is_not_asked_after_again_and_in_the_next_is() external {
        // A term that ends within the period gives no pass.
        Records.Seat memory short = seat(Names.WATCHER, WATCHER);
        uint64 period = START / 14 days;
        short.validTo = (period + 2) * 14 days + 1 days;
        _enactSeat(short);
        vm.warp((period + 2) * 14 days + 1 days - 1);
        _extend();
        vm.warp((period + 2) * 14 days + 1 days);
        add("late");
        bytes32[] memory proof = Reference.consistency(anchor.head().size, leaves, 0, leaves.length, true);
        _refused(
            OPERATOR,
            WATCHER,
            uint64(leaves.length),
            Reference.root(leaves, 0, leaves.length),
            proof,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.NotSeated.selector, Names.WATCHER, vm.addr(WATCHER))
        );
    }

    function testFuzz_the_anchor_asks_after_seats_as_if_it_asked_each_time(uint32[6] memory waits, uint64 ends) external {
        ends = uint64(within(ends, START + 14 days, START + 90 days));
        Records.Seat memory short = seat(Names.OPERATOR, OPERATOR);
        short.validTo = ends;
        _enactSeat(short);
        for (uint256 i = 0; i < waits.length; ++i) {
            vm.warp(block.timestamp + waits[i] % 20 days);
            bool is_ = council.seated(Names.OPERATOR, vm.addr(OPERATOR));
            try this.extend() {
                isTrue(is_);
            } catch {
                isTrue(!is_);
                leaves.pop();
            }
        }
    }

    function extend() external {
        _extend();
    }

    function _extend() private {
        add(abi.encode(leaves.length));
        publish();
    }

    function _enactSeat(Records.Seat memory record) private {
        enact(abi.encode(Records.SEAT, record));
    }

    function test_leak_02_only_an_operator_appends_with_a_watcher_in_time() external {
        add("next");
        bytes32[] memory proof = Reference.consistency(5, leaves, 0, 6, true);
        bytes32 root = Reference.root(leaves, 0, 6);
        _refused(
            WATCHER,
            WATCHER,
            6,
            root,
            proof,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.NotSeated.selector, Names.OPERATOR, vm.addr(WATCHER))
        );
        _refused(
            OPERATOR,
            OPERATOR,
            6,
            root,
            proof,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.NotSeated.selector, Names.WATCHER, vm.addr(OPERATOR))
        );
        _refused(
            OPERATOR,
            WATCHER,
            6,
            root,
            proof,
            START - 1,
            abi.encodeWithSelector(ILedgerAnchor.SignatureExpired.selector, START - 1, START)
        );
        Signature memory other = witness(WATCHER, 6, keccak256("another"), FOREVER);
        vm.prank(vm.addr(OPERATOR));
        try anchor.append(6, root, proof, FOREVER, other.r, compact(other.v, other.s)) {
            isTrue(false);
        } catch (bytes memory refusal) {
            // The signature recovers to nobody in particular, who has no seat.
            same(bytes32(bytes4(refusal)), bytes32(ILedgerAnchor.NotSeated.selector));
        }
        vm.warp(FOREVER);
        _refused(
            OPERATOR,
            WATCHER,
            6,
            root,
            proof,
            FOREVER,
            abi.encodeWithSelector(ILedgerAnchor.NotSeated.selector, Names.OPERATOR, vm.addr(OPERATOR))
        );
        vm.warp(FOREVER - 1);
        publish();
        same(anchor.head().size, 6);
    }

    function test_inclusion_is_of_this_record_at_this_index_in_this_head() external {
        bytes32[] memory proof = path(3);
        anchor.checkIncluded(abi.encode(3), 3, 5, START, proof);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, 3, 5));
        anchor.checkIncluded(abi.encode(4), 3, 5, START, proof);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.NotIncluded.selector, 2, 5));
        anchor.checkIncluded(abi.encode(3), 2, 5, START, proof);
        vm.expectRevert(abi.encodeWithSelector(ILedgerAnchor.UnknownHead.selector, 5, 4, START));
        anchor.checkIncluded(abi.encode(3), 3, 4, START, proof);
    }

    function _refused(
        uint256 sender,
        uint256 signer,
        uint64 size,
        bytes32 root,
        bytes32[] memory proof,
        uint64 until,
        bytes memory refusal
    ) private {
        Signature memory signature = witness(signer, size, root, until);
        vm.prank(vm.addr(sender));
        vm.expectRevert(refusal);
        anchor.append(size, root, proof, until, signature.r, compact(signature.v, signature.s));
    }
}
