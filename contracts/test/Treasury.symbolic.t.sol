// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {IWatchdog} from "../src/interfaces/IWatchdog.sol";
import {Money} from "../src/Money.sol";
import {Treasury} from "../src/Treasury.sol";
import {vm} from "./Vm.sol";

/// @notice The cheat codes of halmos that this test uses.
interface Svm {
    function createBytes(uint256 size, string calldata name) external pure returns (bytes memory);
    function enableSymbolicStorage(address account) external;
    function createAddress(string calldata name) external pure returns (address);
    function createCalldata(string calldata contract_) external pure returns (bytes memory);
}

/// @notice Answers anything at all, differently each time: whatever the Council, the anchor, the watchdog or a token
/// might say. It remembers whether it was asked, as a token, to move anything.
contract Anybody {
    Svm private constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    bool public wasAskedToMove;

    function anchor() external view returns (ILedgerAnchor) {
        return ILedgerAnchor(address(this));
    }

    function retentionEnd() external pure returns (uint64) {
        return 1;
    }

    function transfer(address, uint256) external returns (bool) {
        wasAskedToMove = true;
        return true;
    }

    function transferFrom(address, address, uint256) external returns (bool) {
        wasAskedToMove = true;
        return true;
    }

    function approve(address, uint256) external returns (bool) {
        wasAskedToMove = true;
        return true;
    }

    fallback() external {
        bytes memory answer = svm.createBytes(160, "answer");
        assembly ("memory-safe") {
            return(add(answer, 32), mload(answer))
        }
    }
}

/// @notice Run by halmos (tools/symbolic.py), from any state of the Treasury, by any sender, for every call with every
/// argument: lists have up to two elements. forge runs none of this.
contract TreasurySymbolic {
    Svm private constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    Treasury private treasury;
    Anybody private anybody;

    function setUp() public {
        anybody = new Anybody();
        treasury = new Treasury(ICouncil(address(anybody)), IWatchdog(address(anybody)));
        svm.enableSymbolicStorage(address(treasury));
        vm.deal(address(treasury), 1_000);
    }

    /// @dev Whatever the Council, the anchor and the watchdog answer, and whatever was credited, paid or disputed before.
    function check_only_execute_refund_and_pull_lessen_what_the_treasury_has() external {
        bytes memory data = svm.createCalldata("Treasury");
        bytes4 selector = bytes4(data);
        vm.assume(selector != ITreasury.execute.selector);
        vm.assume(selector != ITreasury.refund.selector);
        vm.assume(selector != ITreasury.pull.selector);
        vm.prank(svm.createAddress("sender"));
        (bool done,) = address(treasury).call(data);
        done;
        assert(address(treasury).balance == 1_000);
        assert(!anybody.wasAskedToMove());
    }

    function check_a_pull_lessens_the_coin_by_no_more_than_was_credited(address payee, address sender) external {
        vm.assume(payee != address(treasury));
        uint256 credit = treasury.credit(payee, Money.COIN);
        vm.prank(sender);
        (bool done,) = address(treasury).call(abi.encodeCall(ITreasury.pull, (payee, Money.COIN)));
        done;
        assert(address(treasury).balance >= 1_000 || 1_000 - address(treasury).balance <= credit);
        assert(!anybody.wasAskedToMove());
    }

    /// @dev False: what is credited goes out. A prover that does not find it proves nothing by the others.
    function check_finds_that_a_pull_can_lessen_the_coin(address payee) external {
        (bool done,) = address(treasury).call(abi.encodeCall(ITreasury.pull, (payee, Money.COIN)));
        done;
        assert(address(treasury).balance == 1_000);
    }
}
