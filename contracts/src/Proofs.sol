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
    function isConsistent(uint256 oldSize, bytes32 oldRoot, uint256 newSize, bytes32 newRoot, bytes32[] calldata proof)
        internal
        view
        returns (bool)
    {
        if (oldSize == 0 || oldSize > newSize || newSize > MAX_SIZE || proof.length > MAX_HASHES) return false;
        if (oldSize == newSize) return proof.length == 0 && oldRoot == newRoot;
        // Where the old tree is one whole subtree the proof leaves its root out: the verifier has it.
        bool whole = oldSize & (oldSize - 1) == 0;
        if (!whole && proof.length == 0) return false;
        uint256 fn = oldSize - 1;
        uint256 sn = newSize - 1;
        while (fn & 1 == 1) {
            fn >>= 1;
            sn >>= 1;
        }
        bytes32 fr = whole ? oldRoot : proof[0];
        bytes32 sr = fr;
        for (uint256 i = whole ? 0 : 1; i < proof.length; ++i) {
            if (sn == 0) return false;
            if (fn & 1 == 1 || fn == sn) {
                fr = nodeHash(proof[i], fr);
                sr = nodeHash(proof[i], sr);
                (fn, sn) = _skip(fn, sn);
            } else {
                sr = nodeHash(sr, proof[i]);
            }
            fn >>= 1;
            sn >>= 1;
        }
        return sn == 0 && fr == oldRoot && sr == newRoot;
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
