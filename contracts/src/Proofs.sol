// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Proofs
/// @notice RFC 6962 trees with SHA-256: does a tree have a leaf, and does a tree extend another.
/// @dev RFC 9162 sections 2.1.3.2 and 2.1.4.2, line by line; ledger/proof.py is the same in Python. The variables keep
/// the names they have there. Nothing reverts: a proof is good or it is not.
library Proofs {
    uint256 internal constant MAX_HASHES = 63;
    uint256 internal constant MAX_SIZE = 2 ** 63 - 1;

    /// @notice The leaf of an entry; the prefix keeps an entry from ever passing for a node.
    function leafHash(bytes memory entry) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(bytes1(0x00), entry));
    }

    /// @notice SHA-256 of 0x01, left, right.
    /// @dev A third of the gas of sha256(abi.encodePacked(...)), which allocates anew for each node; fuzzed against it.
    function nodeHash(bytes32 left, bytes32 right) internal view returns (bytes32 node) {
        assembly ("memory-safe") {
            // Written beyond the free pointer and not kept: 65 bytes do not fit the scratch space.
            let free := mload(0x40)
            mstore8(free, 0x01)
            mstore(add(free, 0x01), left)
            mstore(add(free, 0x21), right)
            let answered := staticcall(gas(), 0x02, free, 0x41, 0x00, 0x20)
            // No answer means that gas ran out, or that this chain has no SHA-256 at address 2.
            if iszero(and(answered, eq(returndatasize(), 0x20))) { revert(0x00, 0x00) }
            node := mload(0x00)
        }
    }

    /// @notice Whether the tree of this size and root has this leaf at this index.
    function isIncluded(bytes32 leaf, uint256 index, uint256 size, bytes32 root, bytes32[] calldata proof)
        internal
        view
        returns (bool)
    {
        if (index >= size || size > MAX_SIZE || proof.length > MAX_HASHES) return false;
        uint256 fn = index;
        uint256 sn = size - 1;
        bytes32 r = leaf;
        for (uint256 i = 0; i < proof.length; ++i) {
            if (sn == 0) return false;
            if (fn & 1 == 1 || fn == sn) {
                r = nodeHash(proof[i], r);
                (fn, sn) = _skip(fn, sn);
            } else {
                r = nodeHash(r, proof[i]);
            }
            fn >>= 1;
            sn >>= 1;
        }
        return sn == 0 && r == root;
    }

    /// @notice Whether the new tree begins with all that the old tree has. There is no proof from size 0.
    /// @dev 2.1.4.2 for both roots at once, in assembly: less than half the gas of the same in plain Solidity, which
    /// Proofs.t.sol has and against which this is fuzzed. Every head that is anchored pays for it. Where the RFC moves fn
    /// and sn down level by level, here they stay and `level`, one bit, moves up.
    /// @return good Whether the proof has exactly the hashes that the sizes ask for, and leads to both roots.
    function isConsistent(uint256 oldSize, bytes32 oldRoot, uint256 newSize, bytes32 newRoot, bytes32[] calldata proof)
        internal
        view
        returns (bool good)
    {
        unchecked {
            // One less than zero is more than any size: an old size of 0 is refused here too.
            if (oldSize - 1 >= newSize || newSize > MAX_SIZE || proof.length > MAX_HASHES) return false;
        }
        if (oldSize == newSize) return proof.length == 0 && oldRoot == newRoot;
        assembly {
            let fn := sub(oldSize, 1)
            let at := proof.offset
            let fr := oldRoot
            // Where the old tree is one whole subtree the proof leaves its root out: the verifier has it.
            if and(oldSize, fn) {
                fr := calldataload(at)
                at := add(at, 0x20)
            }
            let sr := fr
            // The lowest level at which the old tree's last node is a left one, and the levels at which fn and sn differ.
            let level := and(oldSize, not(fn))
            let differing := xor(fn, sub(newSize, 1))
            // 0x01, left, right stand in the scratch space, and the last byte in the highest of the free pointer, which is
            // zero and is made so again.
            mstore8(0x00, 0x01)
            // The sizes decide how many hashes are read, at least 1 and at most 64. What stands behind a proof that is too
            // short is read too, and then refused. First the levels at which the new tree has more to the right.
            for {} iszero(gt(level, differing)) { level := shl(1, level) } {
                switch and(fn, level)
                case 0 {
                    mstore(0x01, sr)
                    mstore(0x21, calldataload(at))
                    pop(staticcall(gas(), 0x02, 0x00, 0x41, 0x01, 0x20))
                    sr := mload(0x01)
                }
                default {
                    mstore(0x01, calldataload(at))
                    mstore(0x21, fr)
                    pop(staticcall(gas(), 0x02, 0x00, 0x41, 0x21, 0x20))
                    fr := mload(0x21)
                    mstore(0x21, sr)
                    pop(staticcall(gas(), 0x02, 0x00, 0x41, 0x21, 0x20))
                    sr := mload(0x21)
                }
                at := add(at, 0x20)
            }
            // Then both are the last node of their level: it has a sibling to the left where fn has a bit, or none and goes
            // up as it is. Each bit is taken away once it is climbed, the lowest first.
            for { fn := and(fn, sub(0, level)) } fn { fn := and(fn, sub(fn, 1)) } {
                mstore(0x01, calldataload(at))
                mstore(0x21, fr)
                pop(staticcall(gas(), 0x02, 0x00, 0x41, 0x21, 0x20))
                fr := mload(0x21)
                mstore(0x21, sr)
                pop(staticcall(gas(), 0x02, 0x00, 0x41, 0x21, 0x20))
                sr := mload(0x21)
                at := add(at, 0x20)
            }
            mstore8(0x40, 0x00)
            // No answer means that gas ran out, or that this chain has no SHA-256 at address 2. Each call costs the same and
            // gas only gets less, so the last has no answer if any had none.
            if iszero(eq(returndatasize(), 0x20)) { revert(0x00, 0x00) }
            good := and(eq(at, add(proof.offset, shl(5, proof.length))), and(eq(fr, oldRoot), eq(sr, newRoot)))
        }
    }

    /// @dev Levels at which the last node has no sibling are passed over.
    function _skip(uint256 fn, uint256 sn) private pure returns (uint256, uint256) {
        while (fn & 1 == 0 && fn != 0) {
            fn >>= 1;
            sn >>= 1;
        }
        return (fn, sn);
    }
}
