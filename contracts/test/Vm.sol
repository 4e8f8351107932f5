// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The cheat codes of forge that these tests use.
interface Vm {
    function warp(uint256 time) external;
    function deal(address holder, uint256 balance) external;
    function prank(address sender) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function addr(uint256 key) external pure returns (address);
    function expectRevert(bytes calldata data) external;
    function expectRevert() external;
    function expectEmit(address emitter) external;
    function expectCall(address callee, bytes calldata data, uint64 count) external;
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function etch(address place, bytes calldata code) external;
    function readFile(string calldata path) external view returns (string memory);
    function parseBytes(string calldata text) external pure returns (bytes memory);
    function trim(string calldata text) external pure returns (string memory);
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @notice Fails the test with both values.
contract Assertions {
    error Differs(uint256 found, uint256 expected);
    error DiffersWord(bytes32 found, bytes32 expected);
    error Untrue();

    function same(uint256 found, uint256 expected) internal pure {
        if (found != expected) revert Differs(found, expected);
    }

    function same(bytes32 found, bytes32 expected) internal pure {
        if (found != expected) revert DiffersWord(found, expected);
    }

    function same(address found, address expected) internal pure {
        same(uint256(uint160(found)), uint256(uint160(expected)));
    }

    function isTrue(bool condition) internal pure {
        if (!condition) revert Untrue();
    }

    function within(uint256 value, uint256 least, uint256 most) internal pure returns (uint256) {
        return least + value % (most - least + 1);
    }
}
