// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Names} from "../src/Names.sol";
import {Proofs} from "../src/Proofs.sol";
import {Reference} from "./Reference.sol";
import {Assertions, vm} from "./Vm.sol";

contract ProofsTest is Assertions {
    uint256 internal constant MOST = 70;

    function included(bytes32 leaf, uint256 index, uint256 size, bytes32 root, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        return Proofs.isIncluded(leaf, index, size, root, proof);
    }

    function consistent(uint256 old, bytes32 oldRoot, uint256 size, bytes32 root, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        return Proofs.isConsistent(old, oldRoot, size, root, proof);
    }

    function testFuzz_the_assembly_node_is_the_plain_node(bytes32 left, bytes32 right) external view {
        same(Proofs.nodeHash(left, right), Reference.node(left, right));
    }

    function testFuzz_a_leaf_is_the_hash_of_zero_and_the_entry(bytes calldata entry) external pure {
        same(Proofs.leafHash(entry), Reference.leaf(entry));
    }

    function testFuzz_every_leaf_is_included_at_its_index_alone(
        uint256 seed,
        uint256 size,
        uint256 index,
        uint256 other
    ) external view {
        size = within(size, 1, MOST);
        index = within(index, 0, size - 1);
        bytes32[] memory leaves = _leaves(seed, size);
        bytes32 root = Reference.root(leaves, 0, size);
        bytes32[] memory path = Reference.path(index, leaves, 0, size);
        isTrue(this.included(leaves[index], index, size, root, path));
        other = within(other, 0, size + 1);
        isTrue(this.included(leaves[index], other, size, root, path) == (other == index));
        isTrue(!this.included(leaves[index], index, size, keccak256(abi.encode(root)), path));
        isTrue(!this.included(keccak256(abi.encode(seed)), index, size, root, path));
        isTrue(!this.included(leaves[index], index, size, root, _longer(path)));
        if (path.length > 0) {
            isTrue(!this.included(leaves[index], index, size, root, _shorter(path)));
            isTrue(!this.included(leaves[index], index, size, root, _changed(path, seed)));
        }
    }

    function testFuzz_a_tree_is_consistent_with_its_beginnings_alone(uint256 seed, uint256 size, uint256 old)
        external
        view
    {
        size = within(size, 1, MOST);
        old = within(old, 1, size);
        bytes32[] memory leaves = _leaves(seed, size);
        bytes32 root = Reference.root(leaves, 0, size);
        bytes32 oldRoot = Reference.root(leaves, 0, old);
        bytes32[] memory proof = Reference.consistency(old, leaves, 0, size, true);
        isTrue(this.consistent(old, oldRoot, size, root, proof));
        isTrue(!this.consistent(old, keccak256(abi.encode(oldRoot)), size, root, proof));
        isTrue(!this.consistent(old, oldRoot, size, keccak256(abi.encode(root)), proof));
        isTrue(!this.consistent(old, oldRoot, size, root, _longer(proof)));
        // A proof says little of the size, but a tree of a thousand more takes more hashes.
        isTrue(!this.consistent(old, oldRoot, size + 1_000, root, proof));
        if (old < size) isTrue(!this.consistent(size, root, old, oldRoot, proof));
        if (proof.length > 0) {
            isTrue(!this.consistent(old, oldRoot, size, root, _shorter(proof)));
            isTrue(!this.consistent(old, oldRoot, size, root, _changed(proof, seed)));
        }
    }

    /// @dev The sizes of a real ledger, beyond those that a test can build: only the shape counts, so hashes are made up.
    function testFuzz_the_assembly_says_what_the_plain_loop_says(
        uint256 old,
        uint256 size,
        bytes32 oldRoot,
        bytes32 root,
        bytes32[] calldata proof
    ) external view {
        size = within(size, 2, 2 ** 63 - 1);
        old = within(old, 1, size - 1);
        (bytes32 fr, bytes32 sr, bool all) = Reference.climb(old, size, oldRoot, proof);
        all = all && proof.length <= 63;
        isTrue(this.consistent(old, oldRoot, size, root, proof) == (all && fr == oldRoot && sr == root));
        // With the roots that the proof leads to, it is good if the old one leads there.
        isTrue(this.consistent(old, fr, size, sr, proof) == (all && (fr == oldRoot || old & (old - 1) != 0)));
    }

    function testFuzz_the_assembly_says_what_the_plain_loop_says_of_proofs_of_the_right_length(
        uint256 old,
        uint256 size,
        uint256 seed,
        uint8 shift
    ) external view {
        // A tree of 2^62 or more may need a 64th hash, which no checkpoint protocol sends.
        size = within(size, 2, 2 ** 62 - 1) >> (shift % 60);
        if (size < 2) size = 2;
        old = within(old, 1, size - 1);
        bytes32[] memory proof = _leaves(seed, Reference.hashes(old, size));
        (bytes32 fr, bytes32 sr, bool all) = this.climb(old, size, keccak256(abi.encode(seed)), proof);
        isTrue(all);
        bool whole = old & (old - 1) == 0;
        isTrue(this.consistent(old, fr, size, sr, proof) == (!whole || fr == keccak256(abi.encode(seed))));
        isTrue(!this.consistent(old, fr, size, sr, _longer(proof)));
        if (proof.length > 0) isTrue(!this.consistent(old, fr, size, sr, _shorter(proof)));
    }

    function climb(uint256 old, uint256 size, bytes32 oldRoot, bytes32[] calldata proof)
        external
        pure
        returns (bytes32, bytes32, bool)
    {
        return Reference.climb(old, size, oldRoot, proof);
    }

    function test_memory_is_as_it_was_after_the_assembly() external view {
        bytes32[] memory leaves = _leaves(1, 9);
        bytes32[] memory proof = Reference.consistency(5, leaves, 0, 9, true);
        isTrue(this.consistent(5, Reference.root(leaves, 0, 5), 9, Reference.root(leaves, 0, 9), proof));
        bytes memory kept = abi.encode(uint256(7));
        isTrue(this.consistentThenAllocate(5, Reference.root(leaves, 0, 5), 9, Reference.root(leaves, 0, 9), proof));
        same(keccak256(kept), keccak256(abi.encode(uint256(7))));
    }

    function test_too_little_gas_is_never_taken_for_an_answer() external view {
        bytes32[] memory leaves = _leaves(1, 70);
        bytes32[] memory proof = Reference.consistency(45, leaves, 0, 70, true);
        (bytes32 oldRoot, bytes32 root) = (Reference.root(leaves, 0, 45), Reference.root(leaves, 0, 70));
        bytes32[] memory way = Reference.path(45, leaves, 0, 70);
        uint256 answers = 0;
        for (uint256 gas_ = 500; gas_ < 9_000; gas_ += 13) {
            try this.consistent{gas: gas_}(45, oldRoot, 70, root, proof) returns (bool good) {
                isTrue(good);
                ++answers;
            } catch {}
            try this.included{gas: gas_}(leaves[45], 45, 70, root, way) returns (bool good) {
                isTrue(good);
                ++answers;
            } catch {}
        }
        isTrue(answers > 0);
    }

    function consistentThenAllocate(
        uint256 old,
        bytes32 oldRoot,
        uint256 size,
        bytes32 root,
        bytes32[] calldata proof
    ) external view returns (bool) {
        bytes memory before = abi.encode(size);
        bool good = Proofs.isConsistent(old, oldRoot, size, root, proof);
        // Were the free pointer spoilt, this would be elsewhere, or cost all gas.
        bytes memory next = abi.encode(old);
        return good && abi.decode(before, (uint256)) == size && abi.decode(next, (uint256)) == old;
    }

    /// @dev Whatever the verifier accepts for a small tree, the definition gives too: no second proof exists.
    function testFuzz_garbage_is_never_accepted(
        bytes32 leaf,
        uint256 index,
        uint256 size,
        bytes32 root,
        bytes32[] calldata proof
    ) external view {
        isTrue(!this.included(leaf, index, size, root, proof));
        isTrue(!this.consistent(within(index, 0, 2 ** 64), leaf, size, root, proof));
    }

    function test_there_is_no_proof_from_size_zero_nor_beyond_the_last_size() external view {
        bytes32[] memory none = new bytes32[](0);
        bytes32 root = sha256("");
        isTrue(!this.consistent(0, root, 0, root, none));
        isTrue(!this.consistent(0, root, 1, root, none));
        isTrue(!this.included(root, 0, 0, root, none));
        isTrue(this.included(root, 0, 1, root, none));
        isTrue(this.consistent(2 ** 63 - 1, root, 2 ** 63 - 1, root, none));
        isTrue(!this.consistent(2 ** 63, root, 2 ** 63, root, none));
    }

    function test_sixty_three_hashes_are_enough_for_the_largest_tree_and_sixty_four_are_refused() external view {
        bytes32[] memory path = new bytes32[](63);
        bytes32 root = bytes32(uint256(1));
        for (uint256 i = 0; i < 63; ++i) {
            root = Reference.node(root, path[i]);
        }
        isTrue(this.included(bytes32(uint256(1)), 0, 2 ** 63 - 1, root, path));
        isTrue(!this.included(bytes32(uint256(1)), 0, 2 ** 64, Reference.node(root, 0), new bytes32[](64)));
    }

    function test_a_sixty_fourth_hash_is_refused_even_where_the_sizes_ask_for_it() external view {
        (uint256 old, uint256 size) = (3, 2 ** 63 - 1);
        bytes32[] memory proof = _leaves(1, Reference.hashes(old, size));
        (bytes32 fr, bytes32 sr, bool all) = this.climb(old, size, 0, proof);
        isTrue(all && proof.length == 64);
        isTrue(!this.consistent(old, fr, size, sr, proof));
        // One less is asked for by half the size, and good.
        size = 2 ** 62 - 1;
        proof = _leaves(1, Reference.hashes(old, size));
        (fr, sr, all) = this.climb(old, size, 0, proof);
        isTrue(all && proof.length == 63);
        isTrue(this.consistent(old, fr, size, sr, proof));
    }

    function test_a_path_is_neither_longer_nor_shorter_than_the_sizes_say() external view {
        // Each of these hashes up to the root, from an inner node or to beyond the top.
        bytes32 leaf = bytes32(uint256(1));
        bytes32[] memory one = new bytes32[](1);
        bytes32[] memory none = new bytes32[](0);
        isTrue(!this.included(leaf, 0, 1, Reference.node(one[0], leaf), one));
        isTrue(!this.included(leaf, 0, 2, leaf, none));
        isTrue(!this.included(leaf, 1, 2, leaf, none));
        isTrue(!this.included(leaf, 3, 4, Reference.node(one[0], leaf), one));
    }

    function test_a_smaller_tree_extends_no_larger_one_and_says_so() external view {
        bytes32 root = bytes32(uint256(1));
        for (uint256 old = 2; old < 10; ++old) {
            for (uint256 size = 0; size < old; ++size) {
                for (uint256 length = 0; length < 4; ++length) {
                    isTrue(!this.consistent(old, root, size, root, new bytes32[](length)));
                }
            }
        }
    }

    function test_a_size_beyond_the_last_has_no_leaves_even_with_a_short_proof() external view {
        // The last leaf of 2^63 + 1 has one sibling: all that stands before it.
        bytes32[] memory path = new bytes32[](1);
        bytes32 leaf = bytes32(uint256(1));
        isTrue(this.included(leaf, 2 ** 62, 2 ** 62 + 1, Reference.node(path[0], leaf), path));
        isTrue(!this.included(leaf, 2 ** 63, 2 ** 63 + 1, Reference.node(path[0], leaf), path));
    }

    function test_the_names_are_those_of_the_rules_and_no_others() external pure {
        bytes32[10] memory roles = [
            bytes32("council"),
            "authority",
            "certifier",
            "auditor",
            "watcher",
            "operator",
            "gateway",
            "treasury",
            "maslikhat",
            "akimat"
        ];
        for (uint256 i = 0; i < roles.length; ++i) {
            isTrue(Names.isRole(roles[i]) && !Names.isSector(roles[i]));
        }
        bytes32[10] memory sectors = [
            bytes32("roads"),
            "water",
            "sewerage",
            "drainage",
            "power",
            "heat",
            "gas",
            "transport",
            "telecom",
            "waste"
        ];
        for (uint256 i = 0; i < sectors.length; ++i) {
            isTrue(Names.isInfrastructure(sectors[i]) && Names.isSector(sectors[i]) && !Names.isRole(sectors[i]));
        }
        bytes32[2] memory others = [bytes32("social"), "administration"];
        isTrue(!Names.isInfrastructure(others[0]) && Names.isSector(others[0]));
        isTrue(!Names.isInfrastructure(others[1]) && Names.isSector(others[1]));
        bytes32[4] memory places = [bytes32("alatau-gate"), "alatau-golden", "alatau-growing", "alatau-green"];
        bytes32[4] memory funds = [bytes32("RETAINED"), "AUTHORITY", "MUNICIPAL", "CUSTODY"];
        for (uint256 i = 0; i < 4; ++i) {
            isTrue(Names.isPlace(places[i]) && !Names.isPlace(funds[i]));
            isTrue(Names.isFund(funds[i]) && !Names.isFund(places[i]));
        }
    }

    function testFuzz_a_name_is_visible_text_and_then_zeros(bytes32 word, uint256 length) external pure {
        isTrue(Names.isName("a") && Names.isName("!~") && Names.isName("abcdefghijklmnopqrstuvwxyz01234"));
        isTrue(!Names.isName(0) && !Names.isName("abcdefghijklmnopqrstuvwxyz012345") && !Names.isName("a b"));
        isTrue(!Names.isName("a\x00b") && !Names.isName("\x7f") && !Names.isName(bytes32(uint256(0x61))));
        length = within(length, 0, 31);
        bytes memory text = new bytes(32);
        for (uint256 i = 0; i < length; ++i) {
            text[i] = bytes1(uint8(0x21 + uint8(word[i]) % 94));
        }
        isTrue(Names.isName(bytes32(text)) == (length > 0));
    }

    function _leaves(uint256 seed, uint256 size) private pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) {
            leaves[i] = keccak256(abi.encode(seed, i));
        }
    }

    function _changed(bytes32[] memory list, uint256 seed) private pure returns (bytes32[] memory copy) {
        copy = _shorter(_longer(list));
        copy[seed % list.length] ^= bytes32(uint256(1) << (seed % 256));
    }

    function _longer(bytes32[] memory list) private pure returns (bytes32[] memory copy) {
        copy = new bytes32[](list.length + 1);
        for (uint256 i = 0; i < list.length; ++i) {
            copy[i] = list[i];
        }
    }

    function _shorter(bytes32[] memory list) private pure returns (bytes32[] memory copy) {
        copy = new bytes32[](list.length - 1);
        for (uint256 i = 0; i < copy.length; ++i) {
            copy[i] = list[i];
        }
    }
}
