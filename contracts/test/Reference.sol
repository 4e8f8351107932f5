// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice RFC 6962 section 2.1 by its definitions: slow, recursive, and nothing like the code it is to test.
library Reference {
    function leaf(bytes memory entry) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"00", entry));
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(bytes.concat(hex"01", left, right));
    }

    /// @dev The largest power of two below the number of leaves.
    function split(uint256 size) internal pure returns (uint256 k) {
        k = 1;
        while (2 * k < size) k *= 2;
    }

    function root(bytes32[] memory leaves, uint256 from, uint256 to) internal pure returns (bytes32) {
        if (to == from) return sha256("");
        if (to - from == 1) return leaves[from];
        uint256 k = split(to - from);
        return node(root(leaves, from, from + k), root(leaves, from + k, to));
    }

    function path(uint256 index, bytes32[] memory leaves, uint256 from, uint256 to)
        internal
        pure
        returns (bytes32[] memory)
    {
        if (to - from == 1) return new bytes32[](0);
        uint256 k = split(to - from);
        if (index < k) return _push(path(index, leaves, from, from + k), root(leaves, from + k, to));
        return _push(path(index - k, leaves, from + k, to), root(leaves, from, from + k));
    }

    function consistency(uint256 old, bytes32[] memory leaves, uint256 from, uint256 to, bool whole)
        internal
        pure
        returns (bytes32[] memory)
    {
        if (old == to - from) {
            return whole ? new bytes32[](0) : _push(new bytes32[](0), root(leaves, from, to));
        }
        uint256 k = split(to - from);
        if (old <= k) return _push(consistency(old, leaves, from, from + k, whole), root(leaves, from + k, to));
        return _push(consistency(old - k, leaves, from + k, to, false), root(leaves, from, from + k));
    }

    function _push(bytes32[] memory list, bytes32 last) private pure returns (bytes32[] memory longer) {
        longer = new bytes32[](list.length + 1);
        for (uint256 i = 0; i < list.length; ++i) {
            longer[i] = list[i];
        }
        longer[list.length] = last;
    }
}
